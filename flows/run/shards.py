"""One shard of a job: its stages, the units that are left of them, and the manifests that seal it.

A stage of a shard is sealed by its last manifest. Until then the commit records of its units say
what is done; the units that are neither done nor given up are handed to a pool.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any, Protocol

from storyreel.cluster.work import Work
from storyreel.flows.edits.editions import kept_copies
from storyreel.flows.edits.inputs import inputs_of, settings_of
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import Job
from storyreel.flows.job.retention import remove_unrecorded
from storyreel.flows.job.stage_table import FAILURES, ShardContext, StageSpec
from storyreel.stages.output.commits import Commit, UnitId, read_attempts
from storyreel.stages.output.manifests import Shard, manifest_path, write_manifest
from storyreel.stages.output.records import Failure
from storyreel.stages.output.unit_records import UnitRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOfShard:
    """A stage on one shard; `is_last` if no stage follows it."""

    spec: StageSpec
    context: ShardContext
    is_last: bool

    @property
    def shard(self) -> Shard:
        """The shard."""
        return self.context.shard

    def is_sealed(self) -> bool:
        """True if all units of the stage are finished and its manifests are written."""
        table = FAILURES if self.is_last else self.spec.manifests[-1].table
        return self.context.output.exists(manifest_path(table, self.shard))

    def units(self) -> list[Work]:
        """All units of the stage, finished ones too, from the manifests of the stages before."""
        settings = settings_of(self.spec, self.context.config)
        kept = kept_copies(self.context, self.spec)
        return [
            Work(
                unit=UnitId(
                    stage=self.spec.name,
                    shard=self.shard,
                    story_id=unit.story_id,
                    shot_index=unit.shot_index,
                ),
                argument=unit.argument,
                record=self.spec.record,
                fingerprint=self.context.fingerprint,
                inputs=inputs_of(unit, settings),
                first_copy=1 + kept.get(unit.story_id, 0),
            )
            for unit in self.spec.units(self.context)
        ]

    def seal(self, results: Mapping[str, Commit[Any] | Failure]) -> None:
        """Write the manifests from the results of all units; the last stage writes the failures.

        A manifest that exists is complete, so the one that `is_sealed` looks for comes last. The
        records of the units are packed before, for nobody looks at a sealed stage again.

        Args:
            results: of each unit, by its name, the commit or failure record.
        """
        UnitRecords.find(self.context.output, self.spec.name, self.shard).pack(results)
        commits = [result for result in results.values() if isinstance(result, Commit)]
        made = list(chain.from_iterable(one.records for one in commits))
        failures = self.context.failures() if self.is_last else []
        remove_unrecorded(self.context, failures)
        for manifest in self.spec.manifests:
            rows = chain.from_iterable(map(manifest.rows, made))
            self._write(manifest.table, manifest.record, sorted(rows, key=manifest.order))
        if self.is_last:
            self._write(FAILURES, Failure, sorted(failures, key=lambda f: f.story_id))

    def _write(self, table: str, record: type, rows: Iterable[Any]) -> None:
        path, fingerprint = manifest_path(table, self.shard), self.context.fingerprint
        write_manifest(self.context.output, path, record, rows, fingerprint=fingerprint)


def stages_of(job: Job, shard: Shard, config: RenderConfig) -> list[StageOfShard]:
    """The stages of one shard of a job, in order; each reads the manifests of those before it."""
    context = ShardContext(
        output=job.output,
        shard=shard,
        fingerprint=job.fingerprint,
        config=config,
        stages=job.stages,
    )
    return [
        StageOfShard(spec=spec, context=context, is_last=spec is job.stages.last)
        for spec in job.stages
    ]


class UnitRunner(Protocol):
    """Runs the remaining units of a stage and receives their progress."""

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Commit[Any] | Failure]:
        """Queue a unit; the future is cancelled if the run ends before the unit has started."""

    def opened(self, stage: StageOfShard, num_units: int) -> None:
        """Called when the number of units of a shard's stage is known."""

    def reopened(self, stage: StageOfShard, num_units: int) -> None:
        """Called when units that were done are open again: what they are made from was edited."""

    def ended(self, unit: UnitId, result: Commit[Any] | Failure) -> None:
        """Called when a unit has ended in this run."""


def render_stage(stage: StageOfShard, runner: UnitRunner) -> bool:
    """Run the units that are left of a shard's stage, and seal it.

    Returns:
        False if the run was told to end before all units were finished.
    """
    units = stage.units()
    runner.opened(stage, len(units))
    try:
        results = dict(_results(stage, units, runner))
    except CancelledError:
        return False
    stage.seal(results)
    return True


def _results(
    stage: StageOfShard, units: list[Work], runner: UnitRunner
) -> Iterator[tuple[str, Commit[Any] | Failure]]:
    """Yield the name and the result of every unit; units that are left are submitted first."""
    output, name = stage.context.output, stage.spec.name
    found = _up_to_date(stage, units, runner)
    later_first = -stage.context.stages.names.index(name)  # films before the next keyframes
    submitted: dict[Future[Commit[Any] | Failure], UnitId] = {}
    for order, work in enumerate(units):
        unit = work.unit
        if unit.name not in found.ended:
            attempts = read_attempts(output, unit, found.attempted.get(unit.name))
            priority = (stage.shard.index, later_first, order)
            submitted[runner.submit(replace(work, attempts=attempts), priority)] = unit
    ended = [work.unit.name for work in units if work.unit.name in found.ended]
    before = found.map(partial(_ended_before, stage, found), ended)
    yield from zip(ended, before, strict=True)
    for future in _as_done(submitted):
        unit, result = submitted[future], future.result()
        runner.ended(unit, result)
        yield unit.name, result


def _up_to_date(stage: StageOfShard, units: list[Work], runner: UnitRunner) -> UnitRecords:
    """Return the records of units that count, after those that do not were removed.

    In a shard that was edited, a unit that was made from something else is open again, and one that
    the stories do not have any more is forgotten.
    """
    found = UnitRecords.find(stage.context.output, stage.spec.name, stage.shard)
    if not stage.shard.edition:
        return found
    wanted = {work.unit.name: work.inputs for work in units}
    done = sorted(found.done)
    made_from = found.map(lambda name: found.commit(name, stage.spec.record).inputs, done)
    stale = {
        name
        for name, inputs in zip(done, made_from, strict=True)
        # Earlier versions did not record inputs; the edit has forgotten what it concerns of them.
        if name not in wanted or inputs not in ("", wanted[name])
    }
    forgotten = stale | (found.failed - wanted.keys())
    if not forgotten:
        return found
    runner.reopened(stage, len(stale))
    found.forgive(forgotten)
    return UnitRecords.find(stage.context.output, stage.spec.name, stage.shard)


def _ended_before(stage: StageOfShard, found: UnitRecords, name: str) -> Commit[Any] | Failure:
    """Read the result of a unit that an earlier run has finished."""
    if name in found.failed:
        return found.failure(name)
    return found.commit(name, stage.spec.record, fingerprint=stage.context.fingerprint)


def _as_done(futures: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    """Yield the futures as they end.

    `concurrent.futures.as_completed` does not return futures that were cancelled by their owner
    and not by an executor (`CANCELLED`, never `CANCELLED_AND_NOTIFIED`).
    """
    done: SimpleQueue[Future[Any]] = SimpleQueue()
    waiting = list(futures)
    for future in waiting:
        future.add_done_callback(done.put)
    for _ in waiting:
        yield done.get()
