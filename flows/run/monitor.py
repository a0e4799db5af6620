"""Applies the control record and the window to a running job, and publishes its status."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeAlias

from storyreel.cluster.pool import Pool
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import read_control
from storyreel.flows.job.environments import Environments
from storyreel.flows.job.job import Job
from storyreel.flows.job.status import JobStatus, write_status
from storyreel.flows.plans.rates import Meters, write_rates
from storyreel.flows.run.controller import ENDING, Controller, Phase
from storyreel.flows.run.metrics import Metrics
from storyreel.flows.run.tally import Tally
from storyreel.flows.run.task_runs import TaskRuns
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.records import Failure

SHOW_S = 0.5
"""Seconds between two checks of the window and of pool sizes."""

Listener: TypeAlias = Callable[[JobStatus], None]
"""Called with the job's status every few seconds."""

logger = logging.getLogger(__name__)


class OpenUnits:
    """The units that a run waits for. Dropping them stops no unit in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._dropped = False

    def add(self, future: Future[Any]) -> None:
        """Add a unit; it is cancelled at once if all units were dropped."""
        with self._lock:
            self._futures.add(future)
            dropped = self._dropped
        future.add_done_callback(self._forget)
        if dropped:
            future.cancel()

    @property
    def dropped(self) -> bool:
        """True if the run was told to end."""
        return self._dropped

    def drop(self) -> None:
        """Cancel all units, and those that are added later."""
        with self._lock:
            self._dropped = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The parts of a run other than its pools."""

    job: Job
    config: RenderConfig
    holder: str
    controller: Controller
    meters: Meters
    environments: Environments
    tally: Tally
    metrics: Metrics
    open_units: OpenUnits
    task_runs: TaskRuns

    def took(self, stage: str, seconds: float) -> None:
        """Count the duration of a committed unit."""
        self.tally.took(stage, seconds)
        self.metrics.took(stage, seconds)

    def ended(self, stage: str, result: Commit[Any] | Failure) -> None:
        """Count a unit that has ended."""
        self.tally.ended(stage, result)
        self.metrics.ended(stage, result)


class Monitor:
    """A thread that follows the control record for as long as the context lasts."""

    def __init__(
        self, watched: Watched, pools: Mapping[str, Pool], listeners: Sequence[Listener]
    ) -> None:
        """Watch a run.

        Args:
            watched: the run.
            pools: its pools, by name.
            listeners: called with the status each time the control record was read.
        """
        self._watched = watched
        self._pools = pools
        self._listeners = listeners
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._paused_since: float | None = None
        self._sizes: dict[str, int] = {}
        self._error: Exception | None = None
        self.ended_by: Phase | None = None
        """Why the run was told to end before its job was finished; `None` if it was not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._look()
                looked = time.monotonic()
                while time.monotonic() < looked + self._watched.config.execution.poll_s:
                    self._obey()
                    if self._over.wait(SHOW_S):
                        break
        except Exception as error:  # the run ends, and raises it
            logger.exception("the run of the job cannot be watched any more")
            self._error = error
            self._watched.open_units.drop()

    def _look(self) -> None:
        control = read_control(self._watched.job.output)
        if control != self._watched.controller.control:
            logger.info("the control record now says: %s", control)
        self._watched.controller.follow(control)
        self._obey()
        self._tell()

    def _obey(self) -> None:
        """Apply what the control record and the window say now."""
        phase = self._watched.controller.phase()
        if phase in ENDING and self.ended_by is not Phase.CANCELLED_NOW:
            self._end(phase)
        elif self.ended_by is None:
            self._resize(phase)

    def _end(self, phase: Phase) -> None:
        """Start no more units. A cancellation that drains may be followed by an immediate one."""
        if self.ended_by is None or phase is Phase.CANCELLED_NOW:
            self.ended_by = phase
            self._watched.open_units.drop()
        if phase is Phase.CANCELLED_NOW:
            for pool in self._pools.values():
                pool.close(cancel=True)

    def _resize(self, phase: Phase) -> None:
        """Set the number of actors of the pools; 0 after a long pause, to free their GPUs."""
        now = time.monotonic()
        paused = phase is Phase.PAUSED
        self._paused_since = (self._paused_since or now) if paused else None
        execution = self._watched.config.execution
        let_go = paused and now - (self._paused_since or now) >= execution.keep_paused_s
        for name, pool in self._pools.items():
            num_actors = 0 if let_go else self._limit(name)
            if self._sizes.get(name) != num_actors:
                pool.resize(num_actors)
                self._sizes[name] = num_actors

    def _limit(self, pool: str) -> int:
        limits: Mapping[Any, int] = self._watched.controller.control.limits
        configured: int = getattr(self._watched.config.pools, pool).num_actors
        return limits.get(pool, configured)

    def _tell(self) -> None:
        status = self._status()
        output = self._watched.job.output
        write_status(output, status)
        if rates := self._watched.meters.rates():
            write_rates(output, rates)
        for listener in self._listeners:
            listener(status)

    def _status(self) -> JobStatus:
        controller, tally = self._watched.controller, self._watched.tally
        opening = controller.opening()
        return JobStatus(
            job=self._watched.job.name,
            phase=self.ended_by or controller.phase(),
            holder=self._watched.holder,
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            window=str(controller.window) if controller.window else None,
            opens=opening.start.isoformat() if opening else None,
            closes=opening.end.isoformat() if opening else None,
            control=controller.control.model_dump(mode="json"),
            stages=tally.stages(),
            failures=tally.failures(),
            num_failures=tally.num_failed_stories() + self._watched.job.num_rejected,
            environments=self._watched.environments.known,
            waits=tuple(wait for pool in self._pools.values() for wait in pool.waits()),
        )
