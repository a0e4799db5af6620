"""Commands that watch and steer a job: status, pause, resume, cancel, set, approve, reject."""

import dataclasses
import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from storyreel.flows.commands.options import AsJson, JobUrl
from storyreel.stages.errors import InputError


def status(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Show the progress of a job, its holder and its failures."""
    from storyreel.flows.job.status import find_status
    from storyreel.flows.views.report import show_status

    found = find_status(output_url)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found), ensure_ascii=False) + "\n")
    else:
        show_status(found, Console())


def pause(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Start no new units.

    Running units finish; idle actors release their GPUs after a while.
    """
    _steer(output_url, "paused", as_json, paused=True)


def resume(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Undo a pause or a cancellation.

    Does not start a run that has already ended.
    """
    _steer(output_url, "resumed", as_json, paused=False, cancel="no")


def cancel(
    output_url: JobUrl,
    now: Annotated[bool, typer.Option("--now", help="Discard the running units.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the run of a job after its running units.

    Finished work is kept; the job can be resumed.
    """
    _steer(output_url, "cancelled", as_json, cancel="now" if now else "drain")


def set_(
    output_url: JobUrl,
    priority: Annotated[
        int | None, typer.Option("--priority", help="From 9 (first) to 1 (last).")
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="POOL=N", help="Most actors of a pool; repeatable."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Hours, such as '22:00-06:00 Europe/Berlin', or 'always'."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the priority, actors or window of a job.

    A running job follows within seconds.
    """
    from storyreel.flows.job.control import parse_limits

    asked = {"priority": priority, "limits": parse_limits(limits or ()), "window": window}
    changes = {key: value for key, value in asked.items() if value not in (None, {})}
    if not changes:
        raise InputError("nothing to change: give --priority, --limit or --window")
    _steer(output_url, "changed", as_json, **changes)


def approve(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Approve the sample of a job: render the rest."""
    _decide(output_url, as_json, approved=True)


def reject(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Reject the sample of a job: end with it."""
    _decide(output_url, as_json, approved=False)


def _steer(output_url: str, state: str, as_json: bool, **changes: Any) -> None:
    from storyreel.flows.job.control import update_control
    from storyreel.stages.output.storage import Output

    _show_control(output_url, state, update_control(Output(output_url), **changes), as_json)


def _decide(output_url: str, as_json: bool, *, approved: bool) -> None:
    from storyreel.flows.plans.sample import decide
    from storyreel.stages.output.storage import Output

    state = "approved" if approved else "rejected"
    _show_control(output_url, state, decide(Output(output_url), approved=approved), as_json)


def _show_control(output_url: str, state: str, control: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(control.model_dump_json() + "\n")
    else:
        Console().print(f"{output_url}: {state}", markup=False, highlight=False, soft_wrap=True)
