"""The units that wait in a pool."""

import time
from bisect import insort
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from storyreel.cluster.errors import ErrorClass, PoolCancelledError
from storyreel.cluster.work import Attempt, Problem, Work


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A unit on its way through a pool.

    `attempts` are those that count; `spared` are the losses of its workers that it was not blamed
    for. Workers and nodes that failed it are remembered. `accepted_at` is when it came into the
    pool, on the monotonic clock.
    """

    work: Work
    key: tuple[tuple[int, ...], int]
    future: Future[Any]
    attempts: int
    accepted_at: float = field(default_factory=time.monotonic)
    spared: int = 0
    smaller: bool = False
    failed_on: set[str] = field(default_factory=set)
    failed_nodes: set[str] = field(default_factory=set)

    def next_attempt(self) -> Attempt:
        """The try that comes next."""
        return Attempt(number=self.attempts + 1, smaller=self.smaller)

    def failed(self, problem: Problem, *, worker: str, node: str) -> None:
        """Remember where an attempt failed; out of memory blames no node."""
        self.failed_on.add(worker)
        if problem.error_class is not ErrorClass.OUT_OF_MEMORY:
            self.failed_nodes.add(node)

    def refuse(self, ended: Exception) -> None:
        """Resolve its future with why the pool has ended; cancel it if the pool was closed."""
        if isinstance(ended, PoolCancelledError):
            self.future.cancel()
        elif self.future.set_running_or_notify_cancel():
            self.future.set_exception(ended)

    def is_hopeless_after(self, problem: Problem) -> bool:
        """True if another attempt is pointless: bad input, or out of memory in the smaller form."""
        out_of_memory = problem.error_class is ErrorClass.OUT_OF_MEMORY
        return problem.error_class is ErrorClass.BAD_INPUT or (out_of_memory and self.smaller)


class Queue:
    """Waiting units, the smallest key first, to be taken stage by stage."""

    def __init__(self) -> None:
        self._by_stage: dict[str, list[Entry]] = {}
        self._failed: set[Entry] = set()

    def __len__(self) -> int:
        return sum(map(len, list(self._by_stage.values())))

    def oldest(self) -> Entry | None:
        """The unit that came first of those that wait; may be called from any thread."""
        waiting = (entry for entries in list(self._by_stage.values()) for entry in list(entries))
        return min(waiting, key=lambda entry: entry.accepted_at, default=None)

    def stages(self) -> list[str]:
        """The stages that units wait for."""
        return [stage for stage, entries in self._by_stage.items() if entries]

    def count(self, stages: list[str]) -> int:
        """The number of waiting units of these stages."""
        return sum(len(self._by_stage[stage]) for stage in stages)

    def failed(self) -> Iterator[Entry]:
        """The units that have failed before."""
        return iter(self._failed)

    def push(self, entry: Entry) -> None:
        """Let a unit wait."""
        insort(self._by_stage.setdefault(entry.work.unit.stage, []), entry, key=_key)
        if entry.failed_on:
            self._failed.add(entry)

    def take(self, stages: list[str], fits: Callable[[Entry], bool]) -> Entry | None:
        """Take the first unit out that waits for one of `stages` and fits."""
        firsts = (next(filter(fits, self._by_stage[stage]), None) for stage in stages)
        entry = min((first for first in firsts if first is not None), key=_key, default=None)
        if entry is not None:
            self.remove(entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Take a unit out."""
        self._by_stage[entry.work.unit.stage].remove(entry)
        self._failed.discard(entry)

    def remove_cancelled(self) -> list[Entry]:
        """Take those out whose future was cancelled."""
        waiting = (entry for entries in self._by_stage.values() for entry in entries)
        cancelled = [entry for entry in waiting if entry.future.cancelled()]
        for entry in cancelled:
            self.remove(entry)
        return cancelled


def _key(entry: Entry) -> tuple[tuple[int, ...], int]:
    return entry.key
