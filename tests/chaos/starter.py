"""Starts processes quickly: imports what they need once, then forks one for each request.

`python -m tests.chaos.starter` reads requests, one JSON object a line, and answers each with the
number of the process that works on it. It ends when its input does.
"""

import json
import os
import runpy
import signal
import sys
import tomllib
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.simulated import CONFIG
from storyreel.cluster.errors import PoolEndedError
from storyreel.flows.job.config import make_config
from storyreel.flows.job.job import open_job
from storyreel.flows.run import prefect_server
from storyreel.flows.run.render import run_render
from storyreel.flows.views import artifacts
from storyreel.flows.views.summary import summarize
from storyreel.stages.errors import LockedError
from storyreel.stages.output.storage import Output
from tests.chaos.stages import Trouble, troubled_stages

MARK = "STORYREEL_CHAOS"
"""Environment variable of a flow's processes, by which those that are left are found."""


def render(request: dict[str, Any]) -> int:
    """What the render command does, with the stages of this suite; returns its exit status."""
    Path(request["folder"], "flow.pid").write_text(str(os.getpid()))
    if (patience_s := request["view_patience_s"]) is not None:
        artifacts.PATIENCE_S = prefect_server.DRAIN_TIMEOUT_S = patience_s
    config = make_config("chaos", tomllib.loads(CONFIG), request["settings"])
    job = open_job(Output(request["output"]), request["stories"], config)
    if job.unfinished():
        troubles = tuple(Trouble(**trouble) for trouble in request["troubles"])
        stages = troubled_stages(folder=request["folder"], troubles=troubles)
        run_render(replace(job, stages=stages), config)
    return int(bool(summarize(job).num_failures))


def serve(request: dict[str, Any]) -> int:
    """A Prefect server; it ends with the process that started it."""
    sys.argv = ["prefect_server", str(request["port"])]
    runpy.run_module("storyreel.flows.run.prefect_server", run_name="__main__")
    return 0


TASKS = {"render": render, "serve": serve}


def _work(request: dict[str, Any], standard_input: int) -> None:
    """The life of a forked process."""
    folder = Path(request["folder"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ[MARK] = request["mark"]
    with (folder / "log").open("a") as log:
        for number, file in enumerate((standard_input, log.fileno(), log.fileno())):
            os.dup2(file, number)
    status = 3
    try:
        status = TASKS[request["task"]](request)
    except (ValueError, ConnectionError, LockedError, PoolEndedError) as error:
        status = 2
        print(f"storyreel: {error}")  # noqa: T201, the command's own last words
    except BaseException:
        traceback.print_exc()
    (folder / "status").write_text(str(status))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Serve requests."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes
    for line in sys.stdin:
        standard_input, held_open = os.pipe()
        process = os.fork()
        if not process:
            os.close(held_open)
            _work(json.loads(line), standard_input)
        os.close(standard_input)
        print(process, flush=True)  # noqa: T201, the protocol


if __name__ == "__main__":
    main()
