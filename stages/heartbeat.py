"""Signs of life of a unit: its stage says when it has done a step, whoever runs it listens.

So a unit that hangs is told from one that is slow. Outside of `followed` the signs are nobody's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Pulse:
    """How far the units of a process are: written by the thread that works, read by another.

    `steps` only grows; `waited_s` is the time lost to storage that did not serve, seconds.
    """

    steps: int = 0
    waited_s: float = 0.0


_followed: ContextVar[Pulse] = ContextVar("_followed", default=Pulse())  # noqa: B039, only counts


@contextmanager
def followed(pulse: Pulse) -> Iterator[None]:
    """Let `pulse` follow what is done in this context."""
    token = _followed.set(pulse)
    try:
        yield
    finally:
        _followed.reset(token)


def beat() -> None:
    """Say that a step is done: one call of a model, one frame."""
    _followed.get().steps += 1


def waited(seconds: float) -> None:
    """Say that so long nothing could be done, by no fault of the unit; counts as a step as well."""
    pulse = _followed.get()
    pulse.waited_s += seconds
    pulse.steps += 1
