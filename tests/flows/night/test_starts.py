"""When submitted jobs and nights start: what is asked for is checked, and said."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from storyreel.flows.night.schedule import Nights
from storyreel.flows.night.submit import Submission

BERLIN = ZoneInfo("Europe/Berlin")


def nights(cron: str) -> Nights:
    return Nights(cron=cron, timezone="Europe/Berlin", window_end="06:00")


@pytest.mark.parametrize("cron", ["0 0 22 * * *", "@daily", "22", "", "0 22 * * * * *"])
def test_a_cron_that_has_not_five_fields_is_refused(cron: str) -> None:
    """Six of them had started a night every second."""
    with pytest.raises(ValueError, match="must have 5 fields, minute hour day month weekday"):
        nights(cron).window()


def test_the_next_night_is_said_in_its_own_time() -> None:
    start = nights("30 22 * * *").next_start().astimezone(BERLIN)
    assert (start.hour, start.minute) == (22, 30)
    assert 0 < (start - datetime.now(UTC)).total_seconds() <= 25 * 3600


def submission(window: str | None, *overrides: str) -> Submission:
    return Submission(
        input_url="stories.jsonl",
        output_url="films",
        config_name="pocket",
        overrides=overrides,
        window=window,
    )


def test_who_submits_a_job_before_its_window_is_told_when_it_opens() -> None:
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    opens = datetime(2026, 11, 26, 21, tzinfo=UTC)
    assert submission("22:00-06:00 Europe/Berlin").waits_until(noon) == opens
    of_config = submission(None, 'execution.window="22:00-06:00 Europe/Berlin"')
    assert of_config.waits_until(noon) == opens


@pytest.mark.parametrize(
    "url",
    [
        "https://me:planted@host/stories.jsonl",
        "s3://key:planted@bucket/x",
        "https://h/x?sig=planted",
    ],
)
def test_a_secret_in_an_input_never_reaches_the_parameters_that_prefect_shows(url: str) -> None:
    with pytest.raises(ValueError, match=r"input .*: must not contain a user, password") as caught:
        replace(submission(None), input_url=url).parameters()
    assert "planted" not in str(caught.value)


def test_a_job_in_its_window_or_without_one_starts_at_once() -> None:
    night = datetime(2026, 11, 26, 23, tzinfo=UTC)
    assert submission("22:00-06:00 Europe/Berlin").waits_until(night) is None
    assert submission(None).waits_until(night) is None
