"""The places of actors on the nodes, which the pools of one run share."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE_S = 5.0
"""Time in which Ray normally finds a free place, seconds; only then another pool gives one up."""

START_S = 60.0
"""Time in which an actor starts on a place that was given up, seconds; then comes the next."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """A pool has units and actors that wait, and none of them has a place.

    `due` is when another pool gives up a place, on the monotonic clock; `promised` is true once
    one of them has an actor to give up, if only after its unit.
    """

    needs: Mapping[str, float]
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
        with self._lock:
            self._claims.setdefault(pool, Claim(needs=needs, due=time.monotonic() + PATIENCE_S))

    def withdraw(self, pool: str) -> None:
        """The pool has a place, or needs none."""
        with self._lock:
            self._claims.pop(pool, None)

    def is_promised(self, pool: str) -> bool:
        """True if another pool will give up a place for this one."""
        with self._lock:
            return pool in self._claims and self._claims[pool].promised

    def claims_on(self, pool: str) -> list[Claim]:
        """The claims of the other pools."""
        with self._lock:
            return [claim for name, claim in self._claims.items() if name != pool]

    def grant(self, claim: Claim) -> bool:
        """Return whether the caller is the one that gives up a place now; others wait again."""
        with self._lock:
            is_due = time.monotonic() >= claim.due
            if is_due:
                claim.due = time.monotonic() + START_S
            return is_due
