"""Continues a job that a command has opened, and prints what became of it."""

import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.prompt import Confirm

if TYPE_CHECKING:
    from storyreel.flows.job.config import RenderConfig
    from storyreel.flows.job.job import Job


def continue_job(job: "Job", config: "RenderConfig", sample_size: int = 0) -> str | None:
    """Render the shards that may be rendered now; the message of the run, `None` without one."""
    from storyreel.flows.plans.sample import shards_due, start

    due = job.unfinished() and shards_due(job, start(job, sample_size))
    return run_job(job, config) if due else None


def render_and_report(job: "Job", config: "RenderConfig", sample_size: int = 0) -> None:
    """Render what is left of a job, after approval if it has a sample, and print the outcome.

    Raises:
        typer.Exit: with code 1 if a story has failed.
    """
    message = continue_job(job, config, sample_size)
    if job.unfinished() and decide_at_terminal(job):
        message = run_job(job, config)
    report_outcome(job, message)


def run_job(job: "Job", config: "RenderConfig") -> str | None:
    """Run the render flow on a job; the message of its final state."""
    from storyreel.flows.run.render import run_render

    return run_render(job, config).message


def report_outcome(job: "Job", message: str | None) -> None:
    """Print the summary of a job, and the run's message if stories are left.

    Raises:
        typer.Exit: with code 1 if a story has failed.
    """
    from storyreel.flows.views.report import show_summary
    from storyreel.flows.views.summary import summarize

    console, summary = Console(), summarize(job)
    show_summary(job, summary, console)
    if message is not None and job.unfinished():
        console.print(message, markup=False, highlight=False, soft_wrap=True)
    if summary.num_failures:
        raise typer.Exit(1)


def decide_at_terminal(job: "Job") -> bool:
    """Show the plan of a job whose sample is rendered, and ask for approval if this is a terminal.

    Returns:
        True if the rest was approved here.
    """
    from storyreel.flows.job.control import Approval, read_control
    from storyreel.flows.plans.plan import read_plan
    from storyreel.flows.plans.sample import decide, shards_due, why_no_plan
    from storyreel.flows.views.plans import show_plan

    console, control = Console(), read_control(job.output)
    if control.approval is not Approval.WAITING or shards_due(job, control):
        return False
    if plan := read_plan(job.output):
        show_plan(plan, console)
    else:
        console.print(why_no_plan(job), highlight=False)
    sheets = job.output.location("films")
    told = f"The sample's films and contact sheets are in {sheets}"
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    if not (sys.stdin.isatty() and console.is_terminal):
        console.print(
            f"`storyreel approve {job.output.url}` continues the job, `reject` ends it",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return False
    approved = Confirm.ask("Render the rest?", console=console)
    decide(job.output, approved=approved)
    return approved
