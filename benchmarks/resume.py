"""The time that a resumed run needs to read an output of many stories.

`python -m benchmarks.resume --stories 100000 --folder FOLDER` lays a job out, seals all its shards
but the last one, which is half done, and measures in a fresh process what a resumed run reads: the
job, the shards that are left, the progress of their units, and the summary.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.simulated import film_of, finish_shard
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job, open_job, read_job
from storyreel.flows.job.stages import STAGES
from storyreel.flows.views.summary import summarize
from storyreel.stages.output.commits import Commit, UnitId, commit
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Film, Story
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords

FRAMES = 480
"""Frames of a film: a minute at 8 frames per second."""


def lay_out(folder: Path, num_stories: int) -> None:
    """A job whose last shard is half done, and whose other shards are sealed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stories.jsonl").open("w") as file:
        for index in range(num_stories):
            row = {"story_id": f"story-{index:06d}", "text": f"A fox walks in park {index}."}
            file.write(json.dumps(row) + "\n")
    output = Output(str(folder / "job"))
    job = open_job(output, str(folder / "stories.jsonl"), load_config("pocket"))
    for shard in job.shards[:-1]:
        stories = read_manifest(output, manifest_path("stories", shard), Story)
        finish_shard(output, shard, [film_of(story.story_id, FRAMES) for story in stories])
    half_do(job, job.shards[-1])


def half_do(job: Job, shard: Shard) -> None:
    """Commit every second unit of a shard's films."""
    stories = read_manifest(job.output, manifest_path("stories", shard), Story)
    for story in stories[::2]:
        unit = UnitId(stage="films", shard=shard, story_id=story.story_id)
        films = (film_of(story.story_id, FRAMES),)
        made = Commit(records=films, attempts=1, worker="", seconds=1.0, hardware="")
        commit(job.output, unit, made, Film)


def scan(folder: Path) -> dict[str, float]:
    """Time the steps of a resumed run before it renders: seconds of each, and memory."""
    seconds: dict[str, float] = {}
    start, busy = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[name], start = now - start, now

    config = load_config("pocket")
    lap("config")
    output = Output(str(folder / "job"))
    open_job(output, str(folder / "stories.jsonl"), config)
    lap("open job, input read and compared")
    job = read_job(output)
    unfinished = job.unfinished()
    lap("find unfinished shards")
    for shard in unfinished:
        for stage in STAGES.names:
            UnitRecords.find(output, stage, shard)
    lap("progress of their units")
    summarize(job)
    lap("summary")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    return {
        **seconds,
        "seconds in all": sum(seconds.values()),
        "of them at work (the rest: waiting)": time.process_time() - busy,
        "GB at most": peak,
    }


def main() -> None:
    """Lay out, then scan in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scan", action="store_true", help="only scan what is there")
    options = parser.parse_args()
    if options.scan:
        for name, value in scan(options.folder).items():
            sys.stdout.write(f"{name:40} {value:8.2f}\n")
        return
    lay_out(options.folder, options.stories)
    command = [sys.executable, "-m", "benchmarks.resume", "--scan", "--folder"]
    subprocess.run([*command, str(options.folder)], check=True)  # noqa: S603, this module


if __name__ == "__main__":
    main()
