"""Which files of a finished story stay.

Keyframes and clips are what films are made of; a job may let them go once a shard's films are
sealed. That they went is recorded before they go, so that an audit can tell it from a loss. The
stories without a film keep theirs: they may be tried again.
"""

import json
from collections.abc import Iterable

from flows.job import Job
from stages.manifests import Shard, manifest_path, read_manifest
from stages.records import Clip, Failure, Film, Keyframe
from stages.storage import Output

REMOVED = "removed"
"""Folder of the records of what was let go, one a shard."""

INTERMEDIATES = ("keyframes", "clips")


def remove_intermediates(output: Output, shard: Shard) -> None:
    """Remove the keyframes and clips of a sealed shard's films."""
    films = read_manifest(output, manifest_path("films", shard), Film)
    story_ids = sorted(film.story_id for film in films)
    output.publish(_path(shard), json.dumps({"stories": story_ids}, indent=1).encode())
    for story_id in story_ids:
        for folder in INTERMEDIATES:
            output.remove_folder(f"{folder}/{story_id}")


def remove_finished_intermediates(job: Job) -> None:
    """Do so for all finished shards, also those whose run ended in between."""
    if any(job.output.names(folder) for folder in INTERMEDIATES):
        unfinished = set(job.unfinished())
        for shard in job.shards:
            if shard not in unfinished:
                remove_intermediates(job.output, shard)


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
