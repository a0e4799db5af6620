"""Removes intermediate files of finished stories, and records which stories have lost them.

Keyframes and clips are only needed until a story is finished; a job may remove them once its shard
is sealed. The removal is recorded first, so that an audit can tell it from a loss. Stories that
were given up keep their files: they may be tried again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from storyreel.flows.job.job import Job
from storyreel.flows.job.stage_table import ShardContext, StageTable
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, files_of
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

REMOVED = "removed"
"""Folder of the records of removed files, one a shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removed:
    stories: tuple[str, ...]


def remove_intermediates(job: Job, shard: Shard) -> None:
    """Remove the intermediate files of the finished stories of a sealed shard."""
    story_ids = _finished_stories(job, shard)
    _record(job.output, shard, story_ids)
    _remove(job.output, story_ids, job.stages)


def remove_finished_intermediates(job: Job) -> None:
    """Remove them for all finished shards, where a run ended between sealing and removing."""
    folders = [spec.files.folder for spec in job.stages.intermediate if spec.files]
    there = {name for folder in folders for name in job.output.names(folder)}
    if not there:
        return
    unfinished = set(job.unfinished())
    for shard in job.shards:
        if shard not in unfinished:
            story_ids = _finished_stories(job, shard)
            if left := [story_id for story_id in story_ids if story_id in there]:
                _record(job.output, shard, story_ids)
                _remove(job.output, left, job.stages)


def _finished_stories(job: Job, shard: Shard) -> Sequence[str]:
    last = job.stages.last.manifests[0]
    rows: list[Any] = read_manifest(job.output, manifest_path(last.table, shard), last.record)
    return sorted(row.story_id for row in rows)


def _record(output: Output, shard: Shard, story_ids: Sequence[str]) -> None:
    output.publish(removed_path(shard), to_json(_Removed(stories=tuple(story_ids))))


def _remove(output: Output, story_ids: Iterable[str], stages: StageTable) -> None:
    for story_id in story_ids:
        for spec in stages.intermediate:
            if spec.files:
                spec.files.remove(output, story_id)


def read_removed(output: Output, shard: Shard) -> frozenset[str]:
    """The stories of a shard whose intermediate files were removed.

    Raises:
        InputError: the record cannot be read.
    """
    try:
        return frozenset(output.read_record(removed_path(shard), _Removed).stories)
    except FileNotFoundError:
        return frozenset()


def remove_unrecorded(context: ShardContext, failures: Iterable[Failure]) -> None:
    """Remove files of stories that were given up, unless a unit has committed them.

    A worker publishes the files of a unit before it commits the unit, so an attempt that failed in
    between leaves some. Called before the last stage of the shard is sealed, of which these
    stories have no record.
    """
    failed = {failure.story_id for failure in failures}
    if not failed:
        return
    recorded: set[str] = set()
    for spec in context.stages.before(context.stages.last.name):
        rows = (row for manifest in spec.manifests for row in context.rows(manifest.table))
        recorded |= {f.path for row in rows if row.story_id in failed for f in files_of(row)}
    for story_id in sorted(failed):
        for spec in context.stages:
            paths = spec.files.paths(context.output, story_id) if spec.files else []
            for path in paths:
                if path not in recorded:
                    context.output.remove(path)


def removed_path(shard: Shard) -> str:
    """The path of the record of a shard's removed files."""
    return f"{REMOVED}/{shard}.json"
