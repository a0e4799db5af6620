"""Counts what a running flow has done, measures how fast, and estimates the time left."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from storyreel.flows.job.stage_table import UnitOf
from storyreel.flows.job.status import Census, StageStatus
from storyreel.flows.plans.rates import Meters
from storyreel.flows.run.shards import StageOfShard
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.records import Failure

PACE_S = 600.0
"""Rates are means over the last `PACE_S` seconds."""

NUM_SLICES = 120
"""Slices into which that time is divided; their counts are added up as they are needed."""


@dataclass(slots=True, kw_only=True)
class _Slice:
    end: float
    units: dict[str, int]
    seconds: dict[str, float]


class Pace:
    """Units, and their seconds on actors, over the last `PACE_S` seconds; bounded memory."""

    def __init__(self) -> None:
        self._start: float | None = None  # when the first unit began
        self._slices: deque[_Slice] = deque(maxlen=NUM_SLICES)

    def took(self, stage: str, seconds: float) -> None:
        """Add a unit that was committed now, after so many seconds on its worker."""
        now = time.monotonic()
        self._start = now - seconds if self._start is None else self._start
        if not self._slices or now >= self._slices[-1].end:
            end = now + PACE_S / NUM_SLICES
            self._slices.append(_Slice(end=end, units={}, seconds={}))
        current = self._slices[-1]
        current.units[stage] = current.units.get(stage, 0) + 1
        current.seconds[stage] = current.seconds.get(stage, 0.0) + seconds

    def units_per_s(self, stage: str) -> float:
        """Units of a stage per second."""
        return sum(part.units.get(stage, 0) for part in self._recent()) / self._elapsed()

    def busy_actors(self, stages: list[str]) -> float:
        """Mean number of actors that were running a unit of one of these stages."""
        recent = self._recent()
        busy = sum(part.seconds.get(stage, 0.0) for part in recent for stage in stages)
        return busy / self._elapsed()

    def _recent(self) -> list[_Slice]:
        oldest = time.monotonic() - PACE_S
        return [part for part in self._slices if part.end > oldest]

    def _elapsed(self) -> float:
        now = time.monotonic()
        return max(1e-3, min(PACE_S, now - (self._start or now)))


class Tally:
    """Counts of a running flow; its methods may be called from any thread."""

    def __init__(self, census: Census, meters: Meters) -> None:
        """Start from `census`, which is changed, and from what `meters` measured before."""
        self._lock = threading.Lock()
        self._census = census
        self._meters = meters
        self._pace = Pace()
        self._pools = {spec.name: spec.pool for spec in census.table}

    def opened(self, stage: StageOfShard, num_units: int, num_stories: int) -> None:
        """Add a shard's stage whose number of units is known now."""
        if stage.spec.unit_of is UnitOf.SHOT:
            with self._lock:
                self._census.note_shots(stage.shard, num_units, num_stories)

    def reopened(self, stage: str, num_units: int) -> None:
        """Take back units that were done: what they are made from was edited."""
        with self._lock:
            self._census.done[stage] -= num_units

    def ended(self, stage: str, result: Commit[Any] | Failure) -> None:
        """Add a unit that has ended."""
        with self._lock:
            if isinstance(result, Failure):
                self._census.note_failure(result)
            else:
                self._census.done[stage] += 1
                self._meters.made(stage, result.records)

    def took(self, stage: str, seconds: float) -> None:
        """Add the time of a unit that was committed now."""
        self._meters.took(stage, seconds)
        with self._lock:
            self._pace.took(stage, seconds)

    def failures(self) -> tuple[Failure, ...]:
        """The newest failures."""
        with self._lock:
            return tuple(self._census.failures)

    def num_failed_stories(self) -> int:
        """Number of stories that were given up."""
        with self._lock:
            return len(self._census.failed_stories)

    def stages(self) -> tuple[StageStatus, ...]:
        """The progress of all stages with rates and times left.

        A stage never ends before the stages that feed it.
        """
        means = {stage: rate.mean_s for stage, rate in self._meters.rates().items()}
        with self._lock:
            counted = self._census.stages()
            statuses: dict[str, StageStatus] = {}
            for status in counted:
                eta = self._eta(status, counted, means)
                before = [earlier.eta_s for earlier in statuses.values()]
                statuses[status.stage] = replace(
                    status,
                    rate=self._pace.units_per_s(status.stage),
                    eta_s=_latest([eta, *before]),
                )
        return tuple(statuses.values())

    def _eta(
        self, status: StageStatus, counted: tuple[StageStatus, ...], means: Mapping[str, float]
    ) -> float | None:
        """Seconds until the pool of a stage has done all its units, at its present pace.

        The stages of a pool share its actors, so that the rate of one stage alone says little.
        """
        pool = [s for s in counted if self._pools[s.stage] == self._pools[status.stage]]
        open_stages = [s for s in pool if s.remaining]
        if not status.remaining:
            return 0.0
        if any(s.stage not in means for s in open_stages):
            return None
        busy = self._pace.busy_actors([s.stage for s in pool])
        seconds = sum(s.remaining * means[s.stage] for s in open_stages)
        return seconds / busy if busy else None


def _latest(etas: list[float | None]) -> float | None:
    """The largest of the values; `None` if one of them is not known."""
    known = [eta for eta in etas if eta is not None]
    return max(known) if len(known) == len(etas) else None
