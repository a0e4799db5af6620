"""Decides, while a job runs, what may start: by its control record and its render window.

Knows neither Prefect nor Ray. Its clock can be given, so that a night passes in a minute.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from storyreel.flows.job.control import ALWAYS, Cancel, Control
from storyreel.flows.job.window import Opening, Window

Clock: TypeAlias = Callable[[], datetime]
"""Gives the current moment, aware."""

UnitLength: TypeAlias = Callable[[str], float | None]
"""How long a unit of a stage takes, seconds; none while that is not known."""


def utc_now() -> datetime:
    """The clock that everyone has."""
    return datetime.now(UTC)


class Phase(StrEnum):
    """What a running flow is to do."""

    RUNNING = "running"
    PAUSED = "paused"
    """Nothing new starts; the flow waits to be resumed."""
    WINDOW_CLOSED = "window_closed"
    """Units in flight are finished, then the flow ends; another night goes on."""
    CANCELLED = "cancelled"
    """Units in flight are finished, then the flow ends."""
    CANCELLED_NOW = "cancelled_now"
    """The flow ends and throws away what is in flight."""


ENDING = frozenset({Phase.WINDOW_CLOSED, Phase.CANCELLED, Phase.CANCELLED_NOW})
"""Phases from which a running flow does not come back."""


class Controller:
    """Says what may start; asked from the pools' threads, told from the monitor's."""

    def __init__(self, window: str | None, length: UnitLength, clock: Clock = utc_now) -> None:
        """Start with an empty control record.

        Args:
            window: the configured window, for a job whose control record names none.
            length: how long a unit of a stage takes.
            clock: what the window is compared with.
        """
        self._configured = window
        self._length = length
        self._clock = clock
        self._control = Control()
        self._window = _window(window)

    def follow(self, control: Control) -> None:
        """From now on, do what this record asks for."""
        self._control = control
        self._window = _window(control.window or self._configured)

    @property
    def control(self) -> Control:
        """The record that is followed."""
        return self._control

    @property
    def window(self) -> Window | None:
        """The window that holds; none where the job may run at any hour."""
        return self._window

    def opening(self) -> Opening | None:
        """The current opening of the window, or the next one; none without a window."""
        return self._window.next_opening(self._clock()) if self._window else None

    def phase(self) -> Phase:
        """What the flow is to do now."""
        cancel = self._control.cancel
        if cancel is not Cancel.NO:
            return Phase.CANCELLED_NOW if cancel is Cancel.NOW else Phase.CANCELLED
        if self._seconds_left() == 0:
            return Phase.WINDOW_CLOSED
        return Phase.PAUSED if self._control.paused else Phase.RUNNING

    def admit(self, stage: str) -> bool:
        """Whether a unit of a stage may start: it must be over before the window closes.

        A unit of a stage of which none was measured yet may start while the window is open.
        """
        if self.phase() is not Phase.RUNNING:
            return False
        left = self._seconds_left()
        return left is None or (self._length(stage) or 0.0) <= left

    def _seconds_left(self) -> float | None:
        """Time until the window closes, 0 if it is closed; none without a window."""
        window, now = self._window, self._clock()
        if window is None:
            return None
        opening = window.opening_at(now)
        return (opening.end - now).total_seconds() if opening else 0.0


def _window(text: str | None) -> Window | None:
    return None if text is None or text == ALWAYS else Window.parse(text)
