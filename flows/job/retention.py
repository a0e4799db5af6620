"""Which files of a finished story stay.

Keyframes and clips are what films are made of; a job may let them go once a shard's films are
sealed. That they went is recorded before they go, so that an audit can tell it from a loss. The
stories without a film keep theirs: they may be tried again.
"""

import json
from collections.abc import Iterable, Sequence

from storyreel.flows.job.job import Job
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Clip, Failure, Film, Keyframe
from storyreel.stages.output.storage import Output

REMOVED = "removed"
"""Folder of the records of what was let go, one a shard."""

INTERMEDIATES = ("keyframes", "clips")

STAGES_LET_GO = ("keyframes", "motion")
"""The stages that make them."""


def remove_intermediates(output: Output, shard: Shard) -> None:
    """Remove the keyframes and clips of a sealed shard's films."""
    story_ids = _stories_with_film(output, shard)
    _record(output, shard, story_ids)
    _remove(output, story_ids)


def remove_finished_intermediates(job: Job) -> None:
    """Do so for what is still there of finished shards, whose run ended in between."""
    there = {name for folder in INTERMEDIATES for name in job.output.names(folder)}
    if not there:
        return
    unfinished = set(job.unfinished())
    for shard in job.shards:
        if shard not in unfinished:
            story_ids = _stories_with_film(job.output, shard)
            if left := [story_id for story_id in story_ids if story_id in there]:
                _record(job.output, shard, story_ids)
                _remove(job.output, left)


def _stories_with_film(output: Output, shard: Shard) -> Sequence[str]:
    films = read_manifest(output, manifest_path("films", shard), Film)
    return sorted(film.story_id for film in films)


def _record(output: Output, shard: Shard, story_ids: Sequence[str]) -> None:
    output.publish(_path(shard), json.dumps({"stories": story_ids}, indent=1).encode())


def _remove(output: Output, story_ids: Iterable[str]) -> None:
    for story_id in story_ids:
        for folder in INTERMEDIATES:
            output.remove_folder(f"{folder}/{story_id}")


def read_removed(output: Output, shard: Shard) -> frozenset[str]:
    """The stories of a shard whose keyframes and clips were let go.

    Raises:
        ValueError: the record cannot be read.
    """
    try:
        return output.read_json(_path(shard), lambda it: frozenset(map(str, it["stories"])))
    except FileNotFoundError:
        return frozenset()


def remove_unrecorded(output: Output, shard: Shard, failures: Iterable[Failure]) -> None:
    """Remove what stories that were given up published and never committed."""
    keyframes = read_manifest(output, manifest_path("keyframes", shard), Keyframe)
    clips = read_manifest(output, manifest_path("clips", shard), Clip)
    recorded = {keyframe.path for keyframe in keyframes} | {clip.path for clip in clips}
    for failure in failures:
        for folder in INTERMEDIATES:
            of_story = f"{folder}/{failure.story_id}"
            for name in output.names(of_story):
                if f"{of_story}/{name}" not in recorded:
                    output.remove(f"{of_story}/{name}")
        for suffix in ("mp4", "srt", "png"):
            output.remove(f"films/{failure.story_id}.{suffix}")


def _path(shard: Shard) -> str:
    return f"{REMOVED}/{shard}.json"
