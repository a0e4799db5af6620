"""Removes what the editions of a job before the present one have left."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from storyreel.flows.edits.editions import earlier_generations, rows_of
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path
from storyreel.stages.output.records import files_of
from storyreel.stages.output.storage import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed: files, their size in bytes, and the shards that are not finished yet.

    What those shards had before their edit stays, for they may still need it.
    """

    num_files: int
    num_bytes: int
    num_unfinished: int


def prune(output: Output, stages: StageTable = STAGES) -> Pruned:
    """Remove the files and manifests of earlier editions that no story of the job has now.

    Raises:
        LockedError: a run works on the job.
    """
    with held(output, "a command that prunes a job") as mine:
        job = read_job(mine, stages)
        unfinished = set(job.unfinished())
        edited = [shard for shard in job.shards if shard.edition]
        removed = [_prune(job, shard) for shard in edited if shard not in unfinished]
    return Pruned(
        num_files=sum(map(len, removed)),
        num_bytes=sum(sum(files.values()) for files in removed),
        num_unfinished=len(unfinished.intersection(edited)),
    )


def _prune(job: Job, shard: Shard) -> dict[str, int]:
    """Remove the earlier editions of a shard; returns the sizes of the files, by their paths."""
    earlier = [s for s in earlier_generations(shard) if s.generation < shard.edition]
    now, before = _files(job, [shard]), _files(job, earlier)
    old = {path: size for path, size in before.items() if path not in now}
    job.output.remove_all(old)
    for folder in _folders(job, earlier) - _folders(job, [shard]):
        job.output.remove_folder(folder)
    # The manifests last: killed before, the same command finds the same files again.
    job.output.remove_all(_manifests(job, earlier))
    return old


def _files(job: Job, shards: list[Shard]) -> dict[str, int]:
    """The sizes of the files of generations, by their paths."""
    rows = (
        row for shard in shards for spec in job.stages for row in rows_of(job.output, shard, spec)
    )
    return {file.path: file.size for row in rows for file in files_of(row)}


def _folders(job: Job, shards: list[Shard]) -> set[str]:
    """The folders that stories have for themselves."""
    specs = [spec for spec in job.stages if spec.files and not spec.files.suffixes]
    return {
        f"{spec.files.folder}/{row.story_id}"
        for shard in shards
        for spec in specs
        if spec.files
        for row in rows_of(job.output, shard, spec)
    }


def _manifests(job: Job, shards: list[Shard]) -> Iterator[str]:
    for shard in shards:
        as_edited = replace(shard, edition=shard.generation)
        for table in (STORIES, *job.stages.records):
            yield manifest_path(table, as_edited)
