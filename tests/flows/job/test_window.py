"""The render window: a farm that is promised to be free at six is free at six, on every night."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyreel.flows.job.window import Window

BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Europe/Berlin: 2026-03-29 02:00 -> 03:00 (01:00 UTC), 2026-10-25 03:00 -> 02:00 (01:00 UTC).
# New York: 2026-03-08 02:00 -> 03:00 (07:00 UTC), 2026-11-01 02:00 -> 01:00 (06:00 UTC).
# Lord Howe changes by half an hour: 2026-04-05 02:00 -> 01:30 (15:00 UTC of the 4th).
NIGHTS = [
    ("a plain day", f"09:00-17:00 {BERLIN}", "2026-01-10T00:00", "01-10T08:00", "01-10T16:00"),
    ("across midnight", f"22:00-06:00 {BERLIN}", "2026-01-10T12:00", "01-10T21:00", "01-11T05:00"),
    ("seen after midnight", "22:00-06:00 UTC", "2026-01-11T03:00", "01-10T22:00", "01-11T06:00"),
    ("ends at midnight", "22:00-00:00 UTC", "2026-01-10T23:00", "01-10T22:00", "01-11T00:00"),
    ("at its end", "22:00-06:00 UTC", "2026-01-11T06:00", "01-11T22:00", "01-12T06:00"),
    ("spring", f"22:00-06:00 {BERLIN}", "2026-03-28T23:00", "03-28T21:00", "03-29T04:00"),
    ("autumn", f"22:00-06:00 {BERLIN}", "2026-10-24T23:00", "10-24T20:00", "10-25T05:00"),
    ("no start", f"02:30-06:00 {BERLIN}", "2026-03-29T00:00", "03-29T01:00", "03-29T04:00"),
    ("no end", f"00:00-02:30 {BERLIN}", "2026-03-28T23:30", "03-28T23:00", "03-29T01:00"),
    ("nothing", f"02:10-02:50 {BERLIN}", "2026-03-29T00:00", "03-30T00:10", "03-30T00:50"),
    ("two starts", f"02:30-06:00 {BERLIN}", "2026-10-25T00:00", "10-25T00:30", "10-25T05:00"),
    ("two ends", f"22:00-02:30 {BERLIN}", "2026-10-24T23:00", "10-24T20:00", "10-25T00:30"),
    ("New York", "20:00-05:00 America/New_York", "2026-11-01T04:00", "11-01T00:00", "11-01T10:00"),
    ("New York", "20:00-05:00 America/New_York", "2026-03-08T04:00", "03-08T01:00", "03-08T09:00"),
    ("Lord Howe", f"22:00-06:00 {LORD_HOWE}", "2026-04-04T12:00", "04-04T11:00", "04-04T19:30"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "window", "now", "start", "end"), NIGHTS)
def test_the_next_opening_is_the_wall_clocks(
    name: str, window: str, now: str, start: str, end: str
) -> None:
    opening = Window.parse(window).next_opening(utc(now))
    assert (opening.start, opening.end) == (utc(f"2026-{start}"), utc(f"2026-{end}")), name


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-01-10T20:59:59", False),
        ("2026-01-10T21:00:00", True),
        ("2026-01-11T04:59:59", True),
        ("2026-01-11T05:00:00", False),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(now: str, is_open: bool) -> None:
    opening = Window.parse(f"22:00-06:00 {BERLIN}").opening_at(utc(now))
    assert (opening is not None) == is_open


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 24 * 60 - 1),
    st.sampled_from([BERLIN, "America/New_York", LORD_HOWE, "Asia/Kolkata", "UTC"]),
)
def test_inside_an_opening_the_wall_clock_reads_a_time_of_the_window(
    now: datetime, start: int, length: int, zone: str
) -> None:
    """At any minute of the year in any zone; the shown window is also read back as itself."""
    end = (start + length) % (24 * 60)
    text = f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d} {zone}"
    window = Window.parse(text)
    assert str(window) == text
    opening = window.next_opening(now.replace(tzinfo=UTC))
    assert now.replace(tzinfo=UTC) < opening.end <= opening.start + timedelta(hours=26)
    first = opening.start.astimezone(ZoneInfo(zone)).time()
    inside = window.start <= first < window.end
    if window.end < window.start:
        inside = first >= window.start or first < window.end
    assert inside, (first, text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("22-6 Europe/Berlin", "must be HH:MM-HH:MM ZONE, such as 22:00-06:00 Europe/Berlin"),
        ("22:00-06:00", "must be HH:MM-HH:MM ZONE"),
        ("22:00-24:00 UTC", "24:00 is not a time of day"),
        ("22:61-23:00 UTC", "22:61 is not a time of day"),
        ("22:00-06:00 Europe/Atlantis", "'Europe/Atlantis' is not an IANA time zone"),
        ("22:00-06:00 Europe", "'Europe' is not an IANA time zone"),
        ("22:00-06:00 ../etc/passwd", "is not an IANA time zone"),
        ("06:00-06:00 UTC", "start and end must differ"),
    ],
)
def test_a_window_that_is_none_is_refused_with_what_is_allowed(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=r"window '") as refusal:
        Window.parse(text)
    assert named in str(refusal.value)
