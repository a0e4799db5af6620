"""A pool: Ray actors that hold the models of one or more stages, and take units one by one."""

import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from storyreel.cluster.config import PoolConfig
from storyreel.cluster.crew import Contents, check_placeable
from storyreel.cluster.nodes import is_local
from storyreel.cluster.places import Places
from storyreel.cluster.queue import Entry
from storyreel.cluster.scheduler import Scheduler
from storyreel.cluster.work import Callbacks, Census, Work
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.records import Failure
from storyreel.stages.output.storage import Output
from storyreel.stages.units import StageFactory


class Pool:
    """Actors around some stages; needs a connected Ray.

    Actors are started when there is work for them. A unit is in flight on one actor at a time, and
    an actor has one unit; a unit that fails is tried again on another actor, and abandoned with a
    `Failure` in the end. Nothing a single unit does ends the pool.
    """

    def __init__(  # noqa: PLR0913, what a pool is, and two that watch over it
        self,
        *,
        name: str,
        stages: Mapping[str, StageFactory],
        output: Output,
        config: PoolConfig,
        num_threads: int,
        places: Places | None = None,
        admit: Callable[[str], bool] | None = None,
        measured: Callable[[str, float], None] | None = None,
        joined: Callable[[str], str | None] | None = None,
    ) -> None:
        """Open a pool.

        Args:
            name: names the pool's workers in logs and records.
            stages: for the name of each stage, what constructs it on a worker.
            output: where units are committed; sent to the workers by pickle, and every node must
                reach its URL. An output that is held under a lock refuses commits once the lock is
                lost (`flows.job.lock.HeldOutput`).
            config: how many actors, and what each needs.
            num_threads: threads of a stage's numerical code; they shape the bytes it makes.
            places: the same for all pools of a run: each of them gets at least one actor placed.
            admit: asked with a stage's name before a unit of it is handed to an actor; "no" means
                not now, and nothing in flight is touched.
            measured: told the stage and the seconds on the worker of each unit that is committed.
            joined: told the environment of each actor that has loaded (see `stages.hardware`);
                returns why it must not work, or `None`.

        `admit`, `measured` and `joined` are called from the pool's thread and must be quick.

        Raises:
            ValueError: the Ray is a local one, and cannot hold an actor.
        """
        if is_local():  # a cluster may get the nodes later
            check_placeable(name, config)
        contents = Contents(
            name=name,
            stages=dict(stages),
            output=output,
            num_threads=num_threads,
            places=places or Places(),
        )
        self._name = name
        self._stages = frozenset(stages)
        self._order = itertools.count()
        callbacks = Callbacks(
            admit=admit or _always, measured=measured or _ignore, joined=joined or _welcome
        )
        self._scheduler = Scheduler(contents, config, callbacks)
        self._thread = threading.Thread(
            target=self._scheduler.run, name=f"pool-{name}", daemon=True
        )
        self._thread.start()

    def submit(self, work: Work, *, priority: tuple[int, ...]) -> Future[Commit[Any] | Failure]:
        """Put a unit in the queue; may be called from any thread.

        Args:
            work: the unit.
            priority: the smallest goes first; equals in the order they came.

        Returns:
            Resolves with the unit's commit record, or with its `Failure`; raises
            `PoolEndedError` if the pool ends first, and is cancelled if the pool is closed.
        """
        assert work.unit.stage in self._stages, work.unit
        future: Future[Commit[Any] | Failure] = Future()
        key = (priority, next(self._order))
        self._scheduler.post(Entry(work=work, key=key, future=future, attempts=work.attempts))
        return future

    def resize(self, num_actors: int) -> None:
        """Have at most so many actors from now on; those too many go when they are idle.

        Raises:
            ValueError: `num_actors` is negative.
        """
        if num_actors < 0:
            raise ValueError(f"pool {self._name}: {num_actors} actors, must be 0 or more")
        self._scheduler.post_resize(num_actors)

    def census(self) -> Census:
        """Count the pool's actors and the units that wait; may be called from any thread."""
        return self._scheduler.census()

    def waits(self) -> list[str]:
        """Return what actors wait for in the middle of a unit, such as storage; `[]` if nothing."""
        return self._scheduler.waits()

    def close(self, *, cancel: bool = False) -> None:
        """End the pool after the open units, or at once if `cancel`; returns when it has ended."""
        self._scheduler.post_close(cancel=cancel)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(cancel=kind is not None)


def _always(_stage: str) -> bool:
    return True


def _welcome(_environment: str) -> None:
    pass


def _ignore(_stage: str, _seconds: float) -> None:
    pass
