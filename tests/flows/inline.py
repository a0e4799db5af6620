"""Renders a job in this thread with the simulated stages: real records, manifests and files.

Tests that use it are about how work is recorded, not about Ray, Prefect or pictures.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from benchmarks.simulated import stage_table
from storyreel.cluster.work import Attempt, Work
from storyreel.cluster.worker import Worker
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job, open_job, read_config, read_job
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.run.shards import render_stage, stages_of
from storyreel.stages.output.commits import Commit, commit_failure
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure
from storyreel.stages.output.storage import Output

PANELS = 3
TEXT = " ".join(f"The fox sees thing {n}." for n in range(PANELS))
SIMULATED = stage_table(speed=1e9)

Fails = Callable[[Work], bool]


def never(_work: Work) -> bool:
    return False


def lay_out(output: Output, folder: Path, num_stories: int, shard_size: int = 2) -> Job:
    """A job of stories `s000`, `s001`, ..., of which nothing is rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ({"story_id": f"s{i:03d}", "text": TEXT} for i in range(num_stories))
    stories = folder / "stories.jsonl"
    stories.write_text("\n".join(map(json.dumps, rows)))
    config = load_config("pocket", overrides=[f"execution.shard_size={shard_size}"])
    return open_job(output, str(stories), config)


def render_inline(output: Output, fails: Fails = never, stages: StageTable = SIMULATED) -> Job:
    """Bring all the shards of a job to their seals."""
    job = read_job(output, stages)
    runner = InlineRunner(job, fails)
    for shard in job.unfinished():
        runner.render(shard)
    return job


class InlineRunner:
    """Does units at once, in this thread; `tried` names those that it was given."""

    def __init__(self, job: Job, fails: Fails = never) -> None:
        self._job = job
        self._config = read_config(job.output)
        self._fails = fails
        url = job.output.url
        factories = {spec.name: spec.factory(url, self._config) for spec in job.stages}
        self._worker = Worker(name="inline", stages=factories, output=job.output)
        self._worker.load()
        self.tried: list[str] = []

    def render(self, shard: Shard) -> None:
        """Bring a shard to its seals."""
        for stage in stages_of(self._job, shard, self._config):
            if not stage.is_sealed():
                assert render_stage(stage, self)

    def submit(self, work: Work, priority: tuple[int, ...]) -> Future[Any]:
        """Do a unit, or give it up."""
        self.tried.append(str(work.unit))
        done: Future[Any] = Future()
        if self._fails(work):
            failure = _failure(work)
            commit_failure(self._job.output, work.unit, failure)
            done.set_result(failure)
            return done
        made = self._worker.run(work, Attempt(number=work.attempts + 1))
        assert isinstance(made, Commit), made
        done.set_result(made)
        return done

    def opened(self, stage: Any, num_units: int) -> None:
        """Nothing counts the units here."""

    def reopened(self, stage: Any, num_units: int) -> None:
        """Nothing counts the units here."""

    def ended(self, unit: Any, result: Any) -> None:
        """Nothing counts the units here."""


def _failure(work: Work) -> Failure:
    return Failure(
        story_id=work.unit.story_id,
        stage=work.unit.stage,
        unit_id=work.unit.name,
        error_class="exception",
        message="planted",
        attempts=3,
        worker="inline",
        source_file="",
        source_row=0,
    )
