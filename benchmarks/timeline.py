"""When the units of a finished job were at work, read from its commit records."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyreel.flows.job.job import read_job
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One unit at work; moments in seconds since the epoch."""

    worker: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Utilisation of a pool's actors.

    `busy` is the share of the actors' time in a stage from the moment when every actor had its
    first unit to the moment when the last unit was handed out; `tail` is the share of the whole
    time that comes after that. `wall_s` is the whole time.
    """

    busy: float
    tail: float
    wall_s: float
    num_units: int


def read_work(output: Path, stages: Iterable[str]) -> list[Work]:
    """The units of some stages of a job on a local disk, by when they ended."""
    job = read_job(Output(str(output)))
    found = (UnitRecords.find(job.output, stage, s) for stage in stages for s in job.shards)
    commits = (units.commit(name, dict) for units in found for name in units.done)
    return sorted(map(_work_of, commits), key=lambda work: work.end)


def measure(work: list[Work], num_actors: int) -> Efficiency:
    """The efficiency of a pool of so many actors that did this work."""
    first = [min(w.start for w in work if w.worker == name) for name in {w.worker for w in work}]
    start, end = min(first), max(w.end for w in work)
    warm, last = max(first), max(w.start for w in work)
    busy = sum(max(0.0, min(w.end, last) - max(w.start, warm)) for w in work)
    return Efficiency(
        busy=busy / (num_actors * (last - warm)) if last > warm else 0.0,
        tail=(end - last) / (end - start),
        wall_s=end - start,
        num_units=len(work),
    )


def _work_of(made: Commit[Any]) -> Work:
    return Work(worker=made.worker, start=made.ended_at - made.seconds, end=made.ended_at)
