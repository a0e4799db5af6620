"""Decides which units of a running job may start, by its control record and render window.

Knows neither Prefect nor Ray. Its clock can be given, so that a night passes in a minute.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from storyreel.flows.job.control import ALWAYS, Cancel, ControlRecord
from storyreel.flows.job.window import Opening, Window

Clock: TypeAlias = Callable[[], datetime]
"""Returns the current time, with a time zone."""

UnitLength: TypeAlias = Callable[[str], float | None]
"""Returns the duration of a unit of a stage in seconds; `None` if none was measured yet."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Phase(StrEnum):
    """State of a running flow."""

    RUNNING = "running"
    PAUSED = "paused"
    """No unit starts; the flow waits until the job is resumed."""
    WINDOW_CLOSED = "window_closed"
    """Units in flight are finished, then the flow ends; the next night continues."""
    CANCELLED = "cancelled"
    """Units in flight are finished, then the flow ends."""
    CANCELLED_NOW = "cancelled_now"
    """The flow ends at once; units in flight are discarded."""


ENDING = frozenset({Phase.WINDOW_CLOSED, Phase.CANCELLED, Phase.CANCELLED_NOW})
"""Phases in which a running flow ends."""


class Controller:
    """Decides what may start.

    The monitor's thread updates it, the threads of the pools read it.
    """

    def __init__(self, window: str | None, length: UnitLength, clock: Clock = utc_now) -> None:
        """Start with an empty control record.

        Args:
            window: the configured window, used if the control record states none.
            length: returns the duration of a unit of a stage.
            clock: returns the time that the window is compared with.
        """
        self._configured = window
        self._length = length
        self._clock = clock
        self._control = ControlRecord()
        self._window = _window(window)

    def follow(self, control: ControlRecord) -> None:
        """Apply this record from now on."""
        self._control = control
        self._window = _window(control.window or self._configured)

    @property
    def control(self) -> ControlRecord:
        """The record that is applied."""
        return self._control

    @property
    def window(self) -> Window | None:
        """The window that applies; `None` if the job may run at any hour."""
        return self._window

    def opening(self) -> Opening | None:
        """The current opening of the window, or the next one; `None` without a window."""
        return self._window.next_opening(self._clock()) if self._window else None

    def phase(self) -> Phase:
        """The present phase of the flow."""
        cancel = self._control.cancel
        if cancel is not Cancel.NO:
            return Phase.CANCELLED_NOW if cancel is Cancel.NOW else Phase.CANCELLED
        if self._seconds_left() == 0:
            return Phase.WINDOW_CLOSED
        return Phase.PAUSED if self._control.paused else Phase.RUNNING

    def admit(self, stage: str) -> bool:
        """True if a unit of a stage may start: it must be finished before the window closes.

        If no unit of the stage was measured yet, one may start while the window is open.
        """
        if self.phase() is not Phase.RUNNING:
            return False
        left = self._seconds_left()
        return left is None or (self._length(stage) or 0.0) <= left

    def _seconds_left(self) -> float | None:
        """Seconds until the window closes, 0 if it is closed; `None` without a window."""
        window, now = self._window, self._clock()
        if window is None:
            return None
        opening = window.opening_at(now)
        return (opening.end - now).total_seconds() if opening else 0.0


def _window(text: str | None) -> Window | None:
    return None if text is None or text == ALWAYS else Window.parse(text)
