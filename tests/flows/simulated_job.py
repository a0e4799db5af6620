"""Runs a job with simulated stages in the real flow, as a process of its own.

Its render window is 22:00-06:00 UTC by a clock of its own, on which it is evening until a clip is
committed, and `--night-s` seconds before six in the morning from then on.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import simulated
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job
from storyreel.flows.plans.sample import start
from storyreel.flows.run import prefect_server
from storyreel.flows.run.render import run_render
from storyreel.flows.views import artifacts
from storyreel.stages.output.storage import Output
from tests.records import commit_records

EVENING = datetime(2026, 1, 10, 22, tzinfo=UTC)
MORNING = datetime(2026, 1, 11, 6, tzinfo=UTC)


def night_clock(output: Path, night_s: float) -> Callable[[], datetime]:
    """The clock; when morning comes is written, in real time, beside the job."""
    before = count_clips(output)
    ends: list[float] = []

    def clock() -> datetime:
        if not ends and count_clips(output) > before:
            ends.append(time.time() + night_s)
            output.with_name("morning").write_text(str(ends[0]))
        return MORNING - timedelta(seconds=ends[0] - time.time()) if ends else EVENING

    return clock


def count_clips(output: Path) -> int:
    return len(commit_records(output, "motion"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--night-s", type=float, default=0.0)
    parser.add_argument("--view-patience-s", type=float)
    parser.add_argument("--sample", type=int, default=0)
    asked = parser.parse_args()

    if asked.view_patience_s is not None:
        artifacts.PATIENCE_S = prefect_server.DRAIN_TIMEOUT_S = asked.view_patience_s
    config = load_config(asked.config, overrides=asked.set)
    job = open_job(Output(asked.output), asked.input, config, sample_size=asked.sample)
    start(job, asked.sample)
    clock = night_clock(Path(asked.output), asked.night_s)
    state = run_render(replace(job, stages=simulated.stage_table(speed=asked.speed)), config, clock)
    sys.stdout.write(f"{state.type.value}|{state.name}|{state.message}\n")


if __name__ == "__main__":
    main()
