"""The progress of a job: one plain object that the terminal, commands and the Prefect UI show.

A running flow counts in memory and publishes the status every few seconds. Where no flow runs, the
units are counted from the manifests and the commit records.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from storyreel.flows.job.control import read_control
from storyreel.flows.job.description import JOB
from storyreel.flows.job.environments import read_environments
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import holder_of
from storyreel.flows.job.stage_table import FAILURES, SHOTS, StageSpec, StageTable, UnitOf
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import READERS, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords

STATUS = "status.json"

STARTING = "starting"

MAX_FAILURES = 20
"""Failures that a status lists; all of them are in the manifests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """Progress of a stage in units.

    Attributes:
        failed: units that were given up.
        total: expected units; extrapolated from the shards whose shots are known if `estimated`.
        rate: units per second over the last minutes; `None` if no flow runs.
        eta_s: seconds until the stage is finished; `None` if that cannot be estimated yet.
    """

    stage: str
    done: int
    failed: int
    total: int
    estimated: bool
    rate: float | None = None
    eta_s: float | None = None

    @property
    def remaining(self) -> int:
        """Units that are neither done nor given up."""
        return max(0, self.total - self.done - self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """Progress of a job; times are in ISO 8601.

    Attributes:
        phase: that of the running flow (`Phase` in `flows/run`); `starting` if a flow holds the job
            and has not published a status yet; `finished`; or `stopped` if no flow runs and shards
            are left.
        holder: the flow run or command that holds the job's lock.
        opens, closes: the current or next opening of the render window.
        num_failures: failed stories and rejected input rows.
        waits: what actors wait for, such as storage that refuses access.
        environments: hardware and versions that the job was rendered with, by pool.
    """

    job: str
    phase: str
    holder: str | None
    updated: str
    window: str | None
    opens: str | None
    closes: str | None
    control: dict[str, Any]
    stages: tuple[StageStatus, ...]
    failures: tuple[Failure, ...]
    num_failures: int
    waits: tuple[str, ...] = ()
    environments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Census:
    """Counts of a job's units that are finished; a running flow adds to them."""

    num_stories: int
    table: StageTable = STAGES
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    shots: dict[int, int] = field(default_factory=dict)
    """Number of shots, by the index of the shard, of the shards where it is known."""
    num_storyboards: int = 0
    """Number of stories in the shards in `shots`."""
    stories_failed_at: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids of failed stories by the stage at which they failed."""
    failures: list[Failure] = field(default_factory=list)
    """The newest ones, at most `MAX_FAILURES`."""

    def note_shots(self, shard: Shard, num_shots: int, num_stories: int) -> None:
        """Add a shard whose number of shots is known; may be called again for the same shard."""
        self.num_storyboards += 0 if shard.index in self.shots else num_stories
        self.shots[shard.index] = num_shots

    def note_failure(self, failure: Failure) -> None:
        """Add a unit that was given up."""
        self.failed[failure.stage] += 1
        self.stories_failed_at[failure.stage].add(failure.story_id)
        self.failures = [*self.failures, failure][-MAX_FAILURES:]

    def add(self, part: "Census") -> None:
        """Add the counts of other shards of the job."""
        self.done += part.done
        self.failed += part.failed
        self.shots |= part.shots
        self.num_storyboards += part.num_storyboards
        for stage, story_ids in part.stories_failed_at.items():
            self.stories_failed_at[stage] |= story_ids
        self.failures = [*self.failures, *part.failures][-MAX_FAILURES:]

    @property
    def failed_stories(self) -> set[str]:
        """Ids of the stories that were given up at any stage."""
        return set().union(*self.stories_failed_at.values())

    def stages(self) -> tuple[StageStatus, ...]:
        """The progress of all stages, without rates."""
        return tuple(map(self._stage, self.table))

    def _stage(self, spec: StageSpec) -> StageStatus:
        of_shots = spec.unit_of is UnitOf.SHOT
        return StageStatus(
            stage=spec.name,
            done=self.done[spec.name],
            failed=self.failed[spec.name],
            total=self._total_shots() if of_shots else self._stories_reaching(spec),
            estimated=of_shots and self.num_storyboards < self.num_stories,
        )

    def _stories_reaching(self, spec: StageSpec) -> int:
        """Number of stories that failed at no stage before this one."""
        failed_at = (self.stories_failed_at[s.name] for s in self.table.before(spec.name))
        return self.num_stories - len(set().union(*failed_at))

    def _total_shots(self) -> int:
        known = sum(self.shots.values())
        unknown = self.num_stories - self.num_storyboards
        return known + round(known / max(1, self.num_storyboards) * unknown)


def write_status(output: Output, status: JobStatus) -> None:
    """Publish the status of a job."""
    output.publish(STATUS, to_json(status))


def read_status(job: Job) -> JobStatus:
    """Return what the running flow published last, or count at the output if no flow runs."""
    claim = holder_of(job.output)
    if claim is not None and job.output.exists(STATUS):
        published = read_published(job.output)
        return replace(published, control=read_control(job.output).model_dump(mode="json"))
    return counted_status(job, count_units(job), None if claim is None else str(claim))


def read_published(output: Output) -> JobStatus:
    """Read the status that a running flow published last.

    Raises:
        FileNotFoundError: none was published yet.
        ValueError: it cannot be read.
    """
    return output.read_record(STATUS, JobStatus)


def find_status(output_url: str, stages: StageTable = STAGES) -> JobStatus:
    """Return the status of the job at an output.

    Raises:
        ValueError: there is no job.
    """
    output = Output(output_url)
    if not output.exists(JOB):
        raise InputError(f"output {output_url}: holds no job")
    return read_status(read_job(output, stages))


def counted_status(job: Job, census: Census, holder: str | None = None) -> JobStatus:
    """Return the status of a job whose units were counted; `holder` is what holds its lock."""
    control = read_control(job.output)
    return JobStatus(
        job=job.name,
        phase=STARTING if holder else "stopped" if job.unfinished() else "finished",
        holder=holder,
        updated=datetime.now(UTC).isoformat(timespec="seconds"),
        window=control.window,
        opens=None,
        closes=None,
        control=control.model_dump(mode="json"),
        stages=census.stages(),
        failures=tuple(census.failures),
        num_failures=len(census.failed_stories) + job.num_rejected,
        environments=read_environments(job.output),
    )


def count_units(job: Job) -> Census:
    """Count from the manifests of finished shards and the commit records of the others."""
    unfinished = {*job.unfinished()}
    started = set(job.output.names(f"units/{job.stages.names[0]}"))
    finished_first = sorted(job.shards, key=lambda shard: shard in unfinished)
    due = [s for s in finished_first if s not in unfinished or str(s) in started]
    census = Census(num_stories=job.num_stories, table=job.stages)
    with ThreadPoolExecutor(READERS, thread_name_prefix="census") as readers:
        for part in readers.map(partial(_count_shard, job, unfinished), due):
            census.add(part)
    return census


def _count_shard(job: Job, unfinished: Set[Shard], shard: Shard) -> Census:
    census = Census(num_stories=job.num_stories, table=job.stages)
    count = _count_unfinished if shard in unfinished else _count_finished
    count(job, shard, census)
    return census


def _count_finished(job: Job, shard: Shard, census: Census) -> None:
    """Count a finished shard without reading its commit records.

    Its `failures` manifest has one row per failed story, with the stage at which it failed; all
    other stories have passed that stage.
    """
    failures = read_manifest(job.output, manifest_path(FAILURES, shard), Failure)
    for failure in failures:
        census.note_failure(failure)
    failed_at = Counter(failure.stage for failure in failures)
    num_stories = job.size_of(shard)
    for spec in job.stages:
        num_stories -= failed_at[spec.name]
        num_done = num_stories
        if spec.unit_of is UnitOf.SHOT:
            num_done = _num_rows(job.output, manifest_path(spec.manifests[0].table, shard))
            census.note_shots(shard, num_done + failed_at[spec.name], job.size_of(shard))
        census.done[spec.name] += num_done


def _count_unfinished(job: Job, shard: Shard, census: Census) -> None:
    for stage in job.stages.names:
        units = UnitRecords.find(job.output, stage, shard)
        census.done[stage] += len(units.done)
        for failure in units.map(units.failure, sorted(units.failed)):
            census.note_failure(failure)
    shots = manifest_path(SHOTS, shard)
    if job.output.exists(shots):
        census.note_shots(shard, _num_rows(job.output, shots), job.size_of(shard))


def _num_rows(output: Output, path: str) -> int:
    num_rows: int = pq.read_metadata(io.BytesIO(output.read(path))).num_rows
    return num_rows
