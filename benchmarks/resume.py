"""The time from the start of a resumed run to its first unit, for a large job that is half done.

    python -m benchmarks.resume --stories 100000 --panels 32 --latency-ms 20

lays a job out on a local disk, or with `--latency-ms` in an S3 server whose every answer takes so
long. Half of its shards are finished, the shots of the next ones are half done, the others are not
begun; one story in a hundred has a picture, which is gone when the job is resumed. A process of its
own then continues the job as a run does, up to the first unit that it would hand to a pool;
starting Ray and Prefect is not part of it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.object_store import BUCKET, ObjectStore, serving
from benchmarks.simulated import clip_of, film_of, keyframe_of, stage_table
from storyreel.cluster.work import Work
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job, open_job, read_job
from storyreel.flows.job.status import count_units, counted_status, write_status
from storyreel.flows.run.shards import StageOfShard, render_stage, stages_of
from storyreel.flows.views.summary import summarize
from storyreel.stages.output.commits import Commit, UnitId, commit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output
from storyreel.stages.units import FilmUnit, KeyframesUnit

CONFIG = load_config("pocket")
OPEN_SHARDS = 8
"""Shards whose shots are half done."""

FILE = File(path="films/fox.png", size=1, sha256="0" * 64)
"""What all records name; the files themselves are not read here."""


def lay_out(folder: Path, url: str, num_stories: int, num_panels: int) -> None:
    """Lay the job out at a URL, and do half of it."""
    Image.new("RGB", (64, 64), "red").save(folder / "face.png")
    fox = {"name": "Fox", "description": "a fox", "reference_image": "face.png"}
    text = " ".join(f"The fox sees thing {n}." for n in range(num_panels))
    with (folder / "stories.jsonl").open("w") as file:
        for index in range(num_stories):
            characters = [] if index % 100 else [fox]
            row = {"story_id": f"s{index:06d}", "text": text, "characters": characters}
            file.write(json.dumps(row) + "\n")
    output = Output(url)
    open_job(output, str(folder / "stories.jsonl"), CONFIG)
    (folder / "face.png").unlink()
    job = read_job(output, stage_table(speed=1e9))
    half = len(job.shards) // 2
    for number, shard in enumerate(job.shards[: half + OPEN_SHARDS]):
        _do(job, shard, all_shots=number < half)


def _do(job: Job, shard: Shard, *, all_shots: bool) -> None:
    runner = _Runner(job, all_shots=all_shots)
    for stage in stages_of(job, shard, CONFIG):
        if not render_stage(stage, runner):
            return


class _Runner:
    """Does units at once, without files, and every second shot only if told so."""

    def __init__(self, job: Job, *, all_shots: bool) -> None:
        self._output = job.output
        self._all_shots = all_shots
        self._prompts = job.stages["prompts"].factory(job.output.url, CONFIG)()

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:  # noqa: ARG002
        """Do a unit; where only half of the shots are to be done, none of the others."""
        done: Future[Any] = Future()
        index = work.unit.shot_index
        if index is not None and index % 2 and not self._all_shots:
            done.cancel()
            return done
        made = Commit(
            records=self._records(work.argument),
            attempts=1,
            worker="render-0@node",
            seconds=1.0,
            hardware="cpu",
            fingerprint=work.fingerprint,
        )
        if index is not None and not self._all_shots:
            commit(self._output, work.unit, made, work.record)
        done.set_result(made)
        return done

    def _records(self, unit: Any) -> tuple[Any, ...]:
        if isinstance(unit, KeyframesUnit):
            return tuple(keyframe_of(panel, FILE) for panel in unit.panels)
        if isinstance(unit, FilmUnit):
            return (film_of(unit.story_id, 480, [FILE] * 3),)
        if hasattr(unit, "shot"):
            return (clip_of(unit.shot, FILE),)
        records: tuple[Any, ...] = self._prompts(unit)
        return records

    def opened(self, stage: StageOfShard, num_units: int) -> None:
        """Nothing counts the units here."""

    def reopened(self, stage: StageOfShard, num_units: int) -> None:
        """Nothing counts the units here."""

    def ended(self, unit: UnitId, result: Any) -> None:
        """Nothing counts the units here."""


class _FirstUnitError(Exception):
    """The first unit is ready."""


class _UpToFirstUnit(_Runner):
    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:  # noqa: ARG002
        """Stop the clock."""
        raise _FirstUnitError


def scan(folder: Path, url: str) -> Iterator[tuple[str, float]]:
    """Yield the steps of a resumed run before its first unit, with the seconds of each."""
    start = time.perf_counter()

    def lap(name: str) -> tuple[str, float]:
        nonlocal start
        before, start = start, time.perf_counter()
        return name, start - before

    output = Output(url)
    open_job(output, str(folder / "stories.jsonl"), CONFIG)
    yield lap("open the job, input compared")
    job = read_job(output, stage_table())
    unfinished = job.unfinished()
    yield lap("find unfinished shards")
    write_status(output, counted_status(job, count_units(job)))
    yield lap("count the units")
    runner = _UpToFirstUnit(job, all_shots=False)
    try:
        for stage in stages_of(job, unfinished[0], CONFIG):
            if not stage.is_sealed():
                render_stage(stage, runner)
    except _FirstUnitError:
        yield lap("the first shard up to its first unit")
    summarize(job)
    yield lap("(summary, at the end of a run)")


@contextmanager
def _place(folder: Path, latency_ms: float | None) -> Iterator[tuple[str, ObjectStore | None]]:
    """Where the job is: a local folder, or the slow store."""
    if latency_ms is None:
        yield str(folder / "job"), None
        return
    with serving() as (store, environment):
        os.environ.update(environment)
        yield f"s3://{BUCKET}/job", store


def main() -> None:
    """Lay out, then scan in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--panels", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, help="use S3 with this latency")
    parser.add_argument("--scan", nargs=2, metavar=("FOLDER", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        folder, url = options.scan
        for name, seconds in scan(Path(folder), url):
            sys.stdout.write(f"{name:40} {seconds:8.2f} s\n")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        sys.stdout.write(f"{'memory at most':40} {peak:8.2f} GB\n")
        return
    with (
        tempfile.TemporaryDirectory() as name,
        _place(Path(name), options.latency_ms) as (url, store),
    ):
        lay_out(Path(name), url, options.stories, options.panels)
        if store is not None:
            store.latency_s = options.latency_ms / 1000
            store.seen.clear()
        command = [sys.executable, "-m", "benchmarks.resume", "--scan", name, url]
        subprocess.run(command, check=True)  # noqa: S603, this module
        if store is not None:
            sys.stdout.write(f"{'requests':40} {store.seen.total():8} {dict(store.seen)}\n")


if __name__ == "__main__":
    main()
