"""The places of actors on the nodes, which the pools of one run share."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE_S = 15.0
"""Time in which an actor normally starts, seconds; only then other pools make room."""

START_S = 60.0
"""Time in which an actor starts on a place that was given up, seconds; then comes the next."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """A pool has units and actors that wait, and none of them has a place.

    Other pools start no further actors from `valid` on, and one of them gives up a place at `due`,
    both on the monotonic clock; `promised` is true once one has an actor to give up, if only after
    its unit.
    """

    needs: Mapping[str, float]
    valid: float
    due: float
    promised: bool = False


class Places:
    """The claims of the pools of one run; may be called from any thread.

    Ray gives a place that becomes free to any actor that waits. If the only actor of a pool dies,
    an additional actor of another pool may take its place, and would keep it for the whole run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}

    def claim(self, pool: str, needs: Mapping[str, float]) -> None:
        """Ask the other pools for one place, for an actor that needs `needs`."""
        valid = time.monotonic() + PATIENCE_S
        with self._lock:
            self._claims.setdefault(pool, Claim(needs=needs, valid=valid, due=valid))

    def withdraw(self, pool: str) -> None:
        """The pool has a place, or needs none."""
        with self._lock:
            self._claims.pop(pool, None)

    def is_promised(self, pool: str) -> bool:
        """True if another pool will give up a place for this one."""
        with self._lock:
            return pool in self._claims and self._claims[pool].promised

    def claims_on(self, pool: str) -> list[Claim]:
        """The valid claims of the other pools."""
        now = time.monotonic()
        with self._lock:
            others = [claim for name, claim in self._claims.items() if name != pool]
        return [claim for claim in others if now >= claim.valid]

    def grant(self, claim: Claim) -> bool:
        """Return whether the caller is the one that gives up a place now; others wait again."""
        with self._lock:
            is_due = time.monotonic() >= claim.due
            if is_due:
                claim.due = time.monotonic() + START_S
            return is_due
