"""Tries failed stories again: forgets the records of their failures, and nothing else."""

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from storyreel.cluster.errors import ErrorClass
from storyreel.flows.job.generations import Ended, GivenUp, complete_opening, open_again
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.stage_table import FAILURES, StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, Story
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Selects failed stories; an empty field selects all."""

    stages: frozenset[str] = frozenset()
    error_classes: frozenset[str] = frozenset()
    story_ids: frozenset[str] = frozenset()

    def fits(self, given_up: GivenUp) -> bool:
        """True if a failure fits all fields."""
        failure = given_up.failure
        wanted = (
            (self.stages, failure.stage),
            (self.error_classes, failure.error_class),
            (self.story_ids, failure.story_id),
        )
        return all(not allowed or value in allowed for allowed, value in wanted)


def open_for_retry(
    output: Output, selection: Selection, stages: StageTable = STAGES
) -> tuple[str, ...]:
    """Let the next run of the job try the selected stories again.

    Returns:
        Their ids.

    Raises:
        LockedError: a run works on the job.
        ValueError: there is no job, a selected story is not in quarantine, or a stage or an error
            class does not exist.
    """
    _check_known("--stage", selection.stages, stages.names)
    _check_known("--class", selection.error_classes, list(ErrorClass))
    with held(output, "a command that retries stories") as mine:
        complete_opening(mine)
        job = read_job(mine, stages)
        stories = _quarantined(job)
        missing = selection.story_ids - stories.keys()
        # A retry that was interrupted has opened the shards of its stories already.
        if missing and (missing := missing - _stories_of_unfinished_shards(job)):
            raise InputError(f"--story {min(missing)}: is not in quarantine at {output.url}")
        chosen = sorted(s for s, units in stories.items() if any(map(selection.fits, units)))
        if chosen:
            units = [unit for story_id in chosen for unit in stories[story_id]]
            open_again(mine, {unit.shard for unit in units}, map(_ended, units))
    return tuple(chosen)


def _check_known(option: str, wanted: Set[str], known: Sequence[str]) -> None:
    if unknown := sorted(wanted - {*known}):
        raise InputError(f"{option} {unknown[0]}: must be one of {', '.join(known)}")


def _stories_of_unfinished_shards(job: Job) -> Set[str]:
    """Return the ids of the stories of unfinished shards."""
    manifests = (manifest_path(STORIES, shard) for shard in job.unfinished())
    return {s.story_id for path in manifests for s in read_manifest(job.output, path, Story)}


def _quarantined(job: Job) -> dict[str, list[GivenUp]]:
    """Return the units that were given up, by story."""
    stories: defaultdict[str, list[GivenUp]] = defaultdict(list)
    for given_up in _given_up(job):
        stories[given_up.failure.story_id].append(given_up)
    return dict(stories)


def _given_up(job: Job) -> Iterator[GivenUp]:
    unfinished = {*job.unfinished()}
    for shard in job.shards:
        if shard not in unfinished and not _has_failures(job, shard):
            continue
        for stage in job.stages.names:
            units = UnitRecords.find(job.output, stage, shard)
            for name in sorted(units.failed):
                yield GivenUp(shard=shard, name=name, failure=units.failure(name))


def _has_failures(job: Job, shard: Shard) -> bool:
    return bool(read_manifest(job.output, manifest_path(FAILURES, shard), Failure))


def _ended(unit: GivenUp) -> Ended:
    return Ended(stage=unit.failure.stage, shard=str(unit.shard), name=unit.name)
