"""The overhead of Prefect, Ray, records and manifests: one actor against a bare loop.

    python -m benchmarks.pipeline examples --config pocket --profile draft --limit 2

Both call the same stages on the same units with the same number of threads. Compared is the actor
that holds the image and video models: the ratio is the bare loop's time in keyframes and motion
over the time from the start of the actor's first unit to the end of its last one, so that loading
is aside on both sides, and what other actors do meanwhile is no gain; 1 is no cost at all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timeline import read_work
from storyreel.cluster.crew import environment
from storyreel.cluster.work import Work
from storyreel.flows.job.config import RenderConfig, load_config
from storyreel.flows.job.job import Job, open_job, read_job
from storyreel.flows.run.render import run_render
from storyreel.flows.run.shards import stages_of
from storyreel.stages.hardware import hardware_class
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.storage import Output
from storyreel.stages.units import Stage

RENDER_STAGES = ("keyframes", "motion")

ONE_ACTOR = [
    "pools.render.num_actors=1",
    "pools.assembly.num_actors=1",
    "pools.render.num_cpus=0.5",
    "pools.assembly.num_cpus=0.5",
]


def main() -> None:
    """Run both and print their times, in seconds, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("input")
    parser.add_argument("--config", default="pocket")
    parser.add_argument("--profile")
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument("--bare", type=Path, help="only the bare loop, on a job laid out there")
    asked = parser.parse_args()
    config = load_config(asked.config, profile=asked.profile, overrides=ONE_ACTOR)
    if asked.bare:
        print(run_bare(read_job(Output(str(asked.bare))), config))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = {
            kind: open_job(Output(str(folder / kind)), asked.input, config, limit=asked.limit)
            for kind in ("bare", "flow")
        }
        bare_s = _bare_in_its_own_process(folder / "bare", config.num_threads)
        run_render(jobs["flow"], config)
        work = read_work(folder / "flow", RENDER_STAGES)
        flow_s = max(unit.end for unit in work) - min(unit.start for unit in work)
    print(json.dumps({"bare_s": bare_s, "flow_s": flow_s, "ratio": bare_s / flow_s}))  # noqa: T201


def run_bare(job: Job, config: RenderConfig) -> float:
    """Render a job in a loop; seconds of `RENDER_STAGES`, without the time that the models load."""
    stages = {spec.name: spec.factory(job.output.url, config)() for spec in job.stages}
    seconds = 0.0
    for shard in job.shards:
        for stage in stages_of(job, shard, config):
            name = stage.spec.name
            start = time.perf_counter()
            stage.seal({work.unit.name: _done(stages[name], work) for work in stage.units()})
            seconds += time.perf_counter() - start if name in RENDER_STAGES else 0.0
    return seconds


def _done(stage: Stage, work: Work) -> Commit[Any]:
    return Commit(
        records=stage(work.argument),
        attempts=1,
        worker="bare",
        seconds=0.0,
        hardware=hardware_class(),
        fingerprint=work.fingerprint,
    )


def _bare_in_its_own_process(output: Path, num_threads: int) -> float:
    """The bare loop with an actor's environment; the arguments are this process's own."""
    done = subprocess.run(  # noqa: S603, this module
        [sys.executable, "-m", "benchmarks.pipeline", *sys.argv[1:], "--bare", str(output)],
        env=os.environ | environment(num_threads),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
