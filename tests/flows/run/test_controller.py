"""Nothing starts that cannot be over when the window closes; what a person asks comes first."""

from datetime import UTC, datetime, timedelta

import pytest

from storyreel.flows.job.control import Cancel, ControlRecord
from storyreel.flows.run.controller import Controller, Phase

WINDOW = "22:00-06:00 UTC"
LENGTHS = {"keyframes": 120.0, "motion": 20.0}


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-10T{clock}").replace(tzinfo=UTC)


def controller(now: datetime, window: str | None = WINDOW) -> Controller:
    return Controller(window, LENGTHS.get, lambda: now)


@pytest.mark.parametrize(
    ("now", "stage", "admitted"),
    [
        ("21:59:59", "motion", False),
        ("22:00:00", "motion", True),
        ("05:57:59", "keyframes", True),
        ("05:58:00", "keyframes", True),  # is over at six, not after it
        ("05:58:01", "keyframes", False),
        ("05:58:01", "motion", True),
        ("05:59:40", "motion", True),
        ("05:59:41", "motion", False),
        ("05:59:59", "films", True),  # never measured: nobody knows that it is too long
        ("06:00:00", "films", False),
        ("12:00:00", "motion", False),
    ],
)
def test_a_unit_starts_if_it_can_be_over_before_the_window_closes(
    now: str, stage: str, admitted: bool
) -> None:
    assert controller(at(now)).admit(stage) is admitted


def test_without_a_window_a_unit_of_any_length_may_start() -> None:
    assert controller(at("12:00:00"), window=None).admit("keyframes")


@pytest.mark.parametrize(
    ("now", "asked", "phase"),
    [
        ("23:00:00", ControlRecord(), Phase.RUNNING),
        ("23:00:00", ControlRecord(paused=True), Phase.PAUSED),
        ("12:00:00", ControlRecord(), Phase.WINDOW_CLOSED),
        (
            "12:00:00",
            ControlRecord(paused=True),
            Phase.WINDOW_CLOSED,
        ),  # a night does not wait for days
        ("12:00:00", ControlRecord(window="always"), Phase.RUNNING),
        ("12:00:00", ControlRecord(window="11:00-13:00 UTC"), Phase.RUNNING),
        ("23:00:00", ControlRecord(window="11:00-13:00 UTC"), Phase.WINDOW_CLOSED),
        ("23:00:00", ControlRecord(cancel=Cancel.DRAIN), Phase.CANCELLED),
        ("12:00:00", ControlRecord(cancel=Cancel.NOW, paused=True), Phase.CANCELLED_NOW),
    ],
)
def test_the_control_record_is_followed_within_the_window(
    now: str, asked: ControlRecord, phase: Phase
) -> None:
    control = controller(at(now))
    control.follow(asked)
    assert control.phase() is phase
    assert control.admit("motion") == (phase is Phase.RUNNING)


def test_a_window_that_is_moved_while_the_job_runs_counts_at_once() -> None:
    control = controller(at("05:59:59"))
    assert not control.admit("motion")
    control.follow(ControlRecord(window="22:00-07:00 UTC"))
    assert control.admit("keyframes")
    opening = control.opening()
    assert opening is not None and opening.end - opening.start == timedelta(hours=9)
