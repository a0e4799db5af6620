"""What a running flow has done so far, how fast, and how long it will take."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from storyreel.flows.job.status import Census, StageStatus
from storyreel.flows.plans.rates import Meters
from storyreel.flows.run.shards import POOL_OF_STAGE, StageOfShard
from storyreel.stages.output.records import Failure

PACE_S = 600.0
"""Rates are those of the last so many seconds."""

NUM_SLICES = 120
"""Slices of that time that are counted as a whole."""


@dataclass(slots=True, kw_only=True)
class _Slice:
    end: float
    units: dict[str, int]
    seconds: dict[str, float]


class Pace:
    """Units and their seconds on the actors over the last `PACE_S` seconds, in bounded memory."""

    def __init__(self) -> None:
        self._start: float | None = None  # when the first unit began
        self._slices: deque[_Slice] = deque(maxlen=NUM_SLICES)

    def took(self, stage: str, seconds: float) -> None:
        """A unit was committed just now."""
        now = time.monotonic()
        self._start = now - seconds if self._start is None else self._start
        if not self._slices or now >= self._slices[-1].end:
            end = now + PACE_S / NUM_SLICES
            self._slices.append(_Slice(end=end, units={}, seconds={}))
        current = self._slices[-1]
        current.units[stage] = current.units.get(stage, 0) + 1
        current.seconds[stage] = current.seconds.get(stage, 0.0) + seconds

    def units_per_s(self, stage: str) -> float:
        """Units of a stage a second."""
        return sum(part.units.get(stage, 0) for part in self._recent()) / self._elapsed()

    def busy_actors(self, stages: list[str]) -> float:
        """How many actors were at work on these stages, on average."""
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
    """Counts what the tasks and the pools of a run report, from any thread."""

    def __init__(self, census: Census, meters: Meters) -> None:
        """Count on from `census`."""
        self._lock = threading.Lock()
        self._census = census
        self._meters = meters
        self._pace = Pace()

    def opened(self, stage: StageOfShard, num_units: int, num_stories: int) -> None:
        """A shard's stage was opened with that many units."""
        if stage.name == "motion":
            with self._lock:
                self._census.note_shots(stage.shard, num_units, num_stories)

    def ended(self, stage: str, result: Any) -> None:
        """A unit is over: with a tuple of records, or with a `Failure`."""
        with self._lock:
            if isinstance(result, Failure):
                self._census.note_failure(result)
            else:
                self._census.done[stage] += 1
                self._meters.made(stage, result)

    def took(self, stage: str, seconds: float) -> None:
        """A unit was committed after so many seconds on its worker."""
        self._meters.took(stage, seconds)
        with self._lock:
            self._pace.took(stage, seconds)

    def failures(self) -> tuple[Failure, ...]:
        """The newest failures."""
        with self._lock:
            return tuple(self._census.failures)

    def num_failed_stories(self) -> int:
        """How many stories will have no film."""
        with self._lock:
            return len(self._census.failed_stories)

    def stages(self) -> tuple[StageStatus, ...]:
        """How far the stages are, with rates."""
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
        """Time until the pool of a stage has done its remaining units, at its pace; seconds."""
        pool = [s for s in counted if POOL_OF_STAGE[s.stage] == POOL_OF_STAGE[status.stage]]
        open_stages = [s for s in pool if s.remaining]
        if not status.remaining:
            return 0.0
        if any(s.stage not in means for s in open_stages):
            return None
        busy = self._pace.busy_actors([s.stage for s in pool])
        seconds = sum(s.remaining * means[s.stage] for s in open_stages)
        return seconds / busy if busy else None


def _latest(etas: list[float | None]) -> float | None:
    """A stage is not over before the ones that feed it."""
    known = [eta for eta in etas if eta is not None]
    return max(known) if len(known) == len(etas) else None
