"""Removes what the editions of a job before the present one have left."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from storyreel.flows.edits.editions import earlier_generations, rows_of
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_each
from storyreel.stages.output.records import Story, files_of
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
        finished = [shard for shard in edited if shard not in unfinished]
        homes = _homes_of_stories(job) if finished else {}
        removed = [_prune(job, shard, homes) for shard in finished]
    return Pruned(
        num_files=sum(map(len, removed)),
        num_bytes=sum(sum(files.values()) for files in removed),
        num_unfinished=len(unfinished.intersection(edited)),
    )


def _homes_of_stories(job: Job) -> dict[str, Shard]:
    """The shard that each story of the job is in."""
    shards = job.shards
    read = read_each(job.output, [manifest_path(STORIES, shard) for shard in shards], Story)
    return {
        story.story_id: shard
        for shard, (_, stories) in zip(shards, read, strict=True)
        for story in stories
    }


def _prune(job: Job, shard: Shard, homes: Mapping[str, Shard]) -> dict[str, int]:
    """Remove the earlier editions of a shard; returns the sizes of the files, by their paths."""
    earlier = [s for s in earlier_generations(shard) if s.generation < shard.edition]
    now = {file.path for row in _rows(job, [shard]) for file in files_of(row)}
    before = {
        file.path: file.size
        for row in _rows(job, earlier)
        # A story that went and came back is in another shard, where its files have these names.
        if homes.get(row.story_id, shard) == shard
        for file in files_of(row)
    }
    old = {path: size for path, size in before.items() if path not in now}
    job.output.remove_all(old)
    shared = {spec.files.folder for spec in job.stages if spec.files}
    for folder in _parents(old) - _parents(now) - shared:
        job.output.remove_folder(folder)
    # The manifests last: killed before, the same command finds the same files again.
    job.output.remove_all(_manifests(job, earlier))
    return old


def _rows(job: Job, shards: Iterable[Shard]) -> Iterator[Any]:
    """The rows of all stages in generations of shards."""
    for shard in shards:
        for spec in job.stages:
            yield from rows_of(job.output, shard, spec)


def _parents(paths: Iterable[str]) -> set[str]:
    return {str(PurePosixPath(path).parent) for path in paths}


def _manifests(job: Job, shards: Iterable[Shard]) -> Iterator[str]:
    for shard in shards:
        as_edited = replace(shard, edition=shard.generation)
        for table in (STORIES, *job.stages.records):
            yield manifest_path(table, as_edited)
