"""How far a job is: one plain object that the terminal, the commands and the Prefect UI show.

A running flow keeps it up to date in memory and publishes it every few seconds. Where no flow runs,
it is counted from the manifests and the commit records, which are the truth.
"""

import io
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq

from storyreel.flows.job.control import read_control
from storyreel.flows.job.job import JOB, Job, read_job
from storyreel.flows.job.lock import holder_of
from storyreel.flows.run.shards import STAGES
from storyreel.stages.output.commits import read_failure, read_progress
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, from_row
from storyreel.stages.output.storage import Output

STATUS = "status.json"

STARTING = "starting"

MAX_FAILURES = 20
"""Failures that a status tells; the rest are in the manifests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStatus:
    """How far a stage is, in units; `failed` ones are given up.

    `total` is extrapolated from the shards whose shots are known if `estimated`. `rate` is in units
    per second over the last minutes. Where nothing runs, or nothing is known yet, `rate` and
    `eta_s` are none.
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
        """Units that are not over."""
        return max(0, self.total - self.done - self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How far a job is, who works on it, and what went wrong; moments are in ISO 8601.

    `phase` is one of a running flow's (`Phase` in `flows/run`); or `starting`: a flow has the job
    and has not said more yet; or `finished`; or `stopped`: no flow runs and there is more to do.
    `opens` and `closes` are of the window's current or next opening. `num_failures` counts stories
    and input rows.
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


@dataclass(slots=True, kw_only=True)
class Census:
    """The units of a job that are over, as counted; a running flow counts on."""

    num_stories: int
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    failed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    shots: dict[int, int] = field(default_factory=dict)
    """Shots of each shard, by its index, of which they are known."""
    num_storyboards: int = 0
    """Stories of the shards in `shots`."""
    failed_stories: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    """The newest ones, at most `MAX_FAILURES`."""

    def note_shots(self, shard: Shard, num_shots: int, num_stories: int) -> None:
        """A shard has so many shots, once it is known."""
        self.num_storyboards += 0 if shard.index in self.shots else num_stories
        self.shots[shard.index] = num_shots

    def note_failure(self, failure: Failure) -> None:
        """A unit was given up."""
        self.failed[failure.stage] += 1
        self.failed_stories.add(failure.story_id)
        self.failures = [*self.failures, failure][-MAX_FAILURES:]

    def stages(self) -> tuple[StageStatus, ...]:
        """The stages, without rates."""
        totals = {
            "prompts": self.num_stories,
            "keyframes": self.num_stories - self.failed["prompts"],
            "motion": self._total_shots(),
            "films": self.num_stories - len(self.failed_stories) + self.failed["films"],
        }
        known = self.num_storyboards >= self.num_stories
        return tuple(
            StageStatus(
                stage=stage,
                done=self.done[stage],
                failed=self.failed[stage],
                total=totals[stage],
                estimated=stage == "motion" and not known,
            )
            for stage in STAGES
        )

    def _total_shots(self) -> int:
        known = sum(self.shots.values())
        unknown = self.num_stories - self.num_storyboards
        return known + round(known / max(1, self.num_storyboards) * unknown)


def write_status(output: Output, status: JobStatus) -> None:
    """Publish how far a job is."""
    output.publish(STATUS, json.dumps(asdict(status), ensure_ascii=False).encode())


def read_status(job: Job) -> JobStatus:
    """How far the job is: what its running flow last said, else counted from the output."""
    claim = holder_of(job.output)
    if claim is not None and job.output.exists(STATUS):
        told = read_told(job.output)
        return replace(told, control=read_control(job.output).model_dump(mode="json"))
    return counted_status(job, None if claim is None else str(claim))


def read_told(output: Output) -> JobStatus:
    """What the running flow last said.

    Raises:
        FileNotFoundError: nothing yet.
        ValueError: it cannot be read.
    """
    return output.read_json(STATUS, _told)


def find_status(output_url: str) -> JobStatus:
    """How far the job at an output is.

    Raises:
        ValueError: there is no job.
    """
    output = Output(output_url)
    if not output.exists(JOB):
        raise ValueError(f"output {output_url}: holds no job")
    return read_status(read_job(output))


def counted_status(job: Job, holder: str | None = None) -> JobStatus:
    """How far the job is by its manifests and commit records; `holder` works on it."""
    census = count_units(job)
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
    )


def _told(content: dict[str, Any]) -> JobStatus:
    stages = tuple(from_row(StageStatus, stage) for stage in content["stages"])
    failures = tuple(from_row(Failure, failure) for failure in content["failures"])
    return JobStatus(**content | {"stages": stages, "failures": failures})


def count_units(job: Job) -> Census:
    """Count what is over from the manifests of finished shards and the records of the others."""
    census = Census(num_stories=job.num_stories)
    unfinished = job.unfinished()
    started = set(job.output.names("units/prompts"))
    for shard in sorted(set(job.shards) - set(unfinished)):
        _count_finished(job, shard, census)
    for shard in unfinished:
        if str(shard) in started:
            _count_unfinished(job, shard, census)
    return census


def _count_finished(job: Job, shard: Shard, census: Census) -> None:
    """A finished shard: its stories are films or failures, and reached the stages before."""
    failures = read_manifest(job.output, manifest_path("failures", shard), Failure)
    for failure in failures:
        census.note_failure(failure)
    left = job.size_of(shard)
    failed_at = [failure.stage for failure in failures]
    for stage in ("prompts", "keyframes"):
        left -= failed_at.count(stage)
        census.done[stage] += left
    num_clips = _num_rows(job.output, manifest_path("clips", shard))
    census.done["motion"] += num_clips
    census.note_shots(shard, num_clips + failed_at.count("motion"), job.size_of(shard))
    census.done["films"] += _num_rows(job.output, manifest_path("films", shard))


def _count_unfinished(job: Job, shard: Shard, census: Census) -> None:
    for stage in STAGES:
        progress = read_progress(job.output, stage, shard)
        census.done[stage] += len(progress.done)
        for name in sorted(progress.failed):
            census.note_failure(read_failure(job.output, stage, shard, name))
    shots = manifest_path("shots", shard)
    if job.output.exists(shots):
        census.note_shots(shard, _num_rows(job.output, shots), job.size_of(shard))


def _num_rows(output: Output, path: str) -> int:
    num_rows: int = pq.read_metadata(io.BytesIO(output.read(path))).num_rows
    return num_rows
