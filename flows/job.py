"""A job: a dataset of stories, one configuration, one output folder.

What shapes the pixels is fingerprinted in `job.json` at the output; the accepted stories are copied
into the `stories` manifests, shard by shard, so that the input is not needed again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flows.config import RenderConfig, digest
from stages.manifests import Shard, manifest_path, write_manifest
from stages.model_config import model_revision
from stages.records import Failure, Story, to_row
from stages.storage import Output
from stages.stories import Rejection, read_stories

RENDERING_VERSION = 1
"""Raised whenever the same job would give other pixels than before."""

JOB = "job.json"
REJECTED = "manifests/failures/input.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that is laid out at its output."""

    output: Output
    fingerprint: str
    num_stories: int
    num_rejected: int
    shard_size: int

    @property
    def name(self) -> str:
        """What people call the job: its output's last part and the start of its fingerprint."""
        return f"{self.output.url.rstrip('/').rsplit('/', 1)[-1]} {self.fingerprint[:8]}"

    @property
    def num_shards(self) -> int:
        """How many shards the stories fill; the last one may be smaller."""
        return -(-self.num_stories // self.shard_size)

    @property
    def shards(self) -> list[Shard]:
        """The shards in the order of the input."""
        return [Shard(index=index, count=self.num_shards) for index in range(self.num_shards)]

    def size_of(self, shard: Shard) -> int:
        """How many stories a shard has."""
        return min(self.shard_size, self.num_stories - shard.index * self.shard_size)

    def unfinished(self) -> list[Shard]:
        """The shards whose last manifest is not there yet."""
        finished = set(self.output.names("manifests/failures"))
        return [shard for shard in self.shards if f"{shard}.parquet" not in finished]


def open_job(
    output: Output,
    input_url: str,
    config: RenderConfig,
    *,
    limit: int | None = None,
    replace: bool = False,
) -> Job:
    """Lay a job out at `output`, or go on with the one that is there if it is the same.

    Args:
        limit: take only that many input rows.
        replace: delete another job that the output holds.

    Raises:
        ValueError: the input cannot be read or holds no story, the output cannot be written, or it
            holds another job.
    """
    output.check_writable()
    census = _take_census(_rows(input_url, limit))
    if not census.num_stories and not census.num_rejected:
        raise ValueError(f"input {input_url}: holds no story")
    description = _describe(config, census)
    if replace and _differences_from(output, description):
        discard_job(output)
    _claim(output, description)
    job = read_job(output)
    _write_stories(job, _rows(input_url, limit))
    return job


def read_job(output: Output) -> Job:
    """The job that `open_job` laid out at `output`.

    Raises:
        FileNotFoundError: there is none.
    """
    there = json.loads(output.read(JOB))
    return Job(
        output=output,
        fingerprint=there["fingerprint"],
        num_stories=there["num_stories"],
        num_rejected=there["num_rejected"],
        shard_size=there["shard_size"],
    )


def discard_job(output: Output) -> None:
    """Remove everything that a job left at its output."""
    for folder in ("manifests", "units", "keyframes", "clips", "films"):
        output.remove_folder(folder)
    output.remove(JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Census:
    num_stories: int
    num_rejected: int
    sha256: str


def _rows(input_url: str, limit: int | None) -> Iterator[Story | Rejection]:
    return islice(read_stories(input_url), limit)


def _take_census(rows: Iterator[Story | Rejection]) -> _Census:
    """Count and hash the rows' content; where they were read from does not matter."""
    counts = {Story: 0, Rejection: 0}
    content = hashlib.sha256()
    for row in rows:
        counts[type(row)] += 1
        content.update(digest({**to_row(row), "source_file": ""}).encode())
    return _Census(
        num_stories=counts[Story], num_rejected=counts[Rejection], sha256=content.hexdigest()
    )


def _describe(config: RenderConfig, census: _Census) -> dict[str, Any]:
    models = {
        "keyframes": model_revision(config.keyframes.model),
        "motion": model_revision(config.motion.model),
    }
    shaping = {
        "rendering_version": RENDERING_VERSION,
        "input_sha256": census.sha256,
        "models": models,
        "rendering": config.rendering(),
    }
    return {
        **shaping,
        "fingerprint": digest(shaping),
        "num_stories": census.num_stories,
        "num_rejected": census.num_rejected,
        "shard_size": config.execution.stories_per_shard(census.num_stories),
    }


def _claim(output: Output, description: dict[str, Any]) -> None:
    if differences := _differences_from(output, description):
        raise ValueError(
            f"output {output.url}: holds a different job ({'; '.join(differences)});"
            " choose another --output, or pass --discard-other-job to delete it"
        )
    if not output.exists(JOB):
        output.publish(JOB, json.dumps(description, indent=1, sort_keys=True).encode())


def _differences_from(output: Output, description: dict[str, Any]) -> list[str]:
    """What tells the job that the output holds, if any, from the described one."""
    if output.exists(JOB):
        there = json.loads(output.read(JOB))
        same = there["fingerprint"] == description["fingerprint"]
        return [] if same else list(_differences(there, description))
    if output.exists("manifests") or output.exists("units"):
        return [f"files of a job without its {JOB}"]
    return []


def _differences(there: Any, wanted: Any, key: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in sorted(there.keys() | wanted.keys()):
            if name != "fingerprint":
                inner = f"{key}.{name}" if key else name
                yield from _differences(there.get(name), wanted.get(name), inner)
    elif there != wanted:
        yield f"{key.removeprefix('rendering.')}: {there!r} there, {wanted!r} here"


def _write_stories(job: Job, rows: Iterator[Story | Rejection]) -> None:
    """Copy the accepted stories to their manifests, one shard in memory at a time."""
    there = set(job.output.names("manifests/stories"))
    if len(there) == job.num_shards and (not job.num_rejected or job.output.exists(REJECTED)):
        return
    rejected: list[Failure] = []
    stories = _accepted(rows, rejected)
    for shard in job.shards:
        of_shard = list(islice(stories, job.shard_size))
        write_manifest(job.output, manifest_path("stories", shard), Story, of_shard)
    rejected += [_rejection(row) for row in rows if isinstance(row, Rejection)]
    if rejected:
        write_manifest(job.output, REJECTED, Failure, rejected)


def _accepted(rows: Iterator[Story | Rejection], rejected: list[Failure]) -> Iterator[Story]:
    for row in rows:
        if isinstance(row, Story):
            yield row
        else:
            rejected.append(_rejection(row))


def _rejection(row: Rejection) -> Failure:
    return Failure(
        story_id=row.story_id,
        stage="input",
        unit_id="",
        error_class="bad_input",
        message=row.message,
        attempts=0,
        worker="",
        source_file=row.source_file,
        source_row=row.source_row,
    )
