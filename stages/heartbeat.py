"""Heartbeats: a stage counts its steps, so that its worker can tell a slow unit from a hung one.

Heartbeats outside of `followed` are counted and never read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Progress of the units of a process; one thread writes it, another reads it.

    Attributes:
        steps: number of heartbeats so far; never decreases.
        waited_s: total time in which storage did not respond, seconds.
        waits_for: what the unit waits for now; "" while it works.
    """

    steps: int = 0
    waited_s: float = 0.0
    waits_for: str = ""


_followed: ContextVar[Pulse] = ContextVar("_followed", default=Pulse())  # noqa: B039, only counts


@contextmanager
def followed(pulse: Pulse) -> Iterator[None]:
    """Count the heartbeats of this context in `pulse`."""
    token = _followed.set(pulse)
    try:
        yield
    finally:
        _followed.reset(token)


def beat() -> None:
    """Count a finished step, such as one call of a model or one encoded frame."""
    pulse = _followed.get()
    pulse.steps += 1
    pulse.waits_for = ""


def waited(seconds: float, reason: str) -> None:
    """Count time in which the unit could not proceed, through no fault of its own; also a step."""
    pulse = _followed.get()
    pulse.waited_s += seconds
    pulse.steps += 1
    pulse.waits_for = reason
