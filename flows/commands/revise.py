"""Edits the job at an output in place, after its plan was shown."""

import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.prompt import Confirm

from storyreel.stages.errors import InputError

if TYPE_CHECKING:
    from storyreel.flows.edits.revision import Revision, Source
    from storyreel.flows.job.job import Job
    from storyreel.stages.output.storage import Output


def edit_in_place(
    output: "Output", source: "Source", *, prune: bool, yes: bool, dry_run: bool
) -> "Job | None":
    """Edit the job at an output if its input or settings are others than it was made from.

    Returns:
        The job; `None` if the output has none, or it is as it is to be.

    Raises:
        InputError: the job cannot be edited, or settings were edited and nobody has agreed.
        typer.Exit: it was only to be planned.
    """
    from storyreel.flows.edits.revision import find_edited, find_revision, revise
    from storyreel.flows.job.description import JOB
    from storyreel.flows.job.job import read_job

    job = find_edited(output, source)
    if job is None and prune and output.exists(JOB):
        job = read_job(output)
    revision = find_revision(job, source) if job else None
    if job is None or revision is None or revision.is_empty(prune=prune):
        return None
    _show(job, revision, source, prune=prune)
    if dry_run:
        raise typer.Exit
    if revision.settings and not yes:
        _ask(output)
    return revise(job, source, revision, prune=prune)


def _show(job: "Job", revision: "Revision", source: "Source", *, prune: bool) -> None:
    from storyreel.flows.job.job import read_config
    from storyreel.flows.plans.revision import plan_revision
    from storyreel.flows.plans.splitting import rule_splitter
    from storyreel.flows.views.revisions import show_revision

    split = rule_splitter(source.config, job.stages)
    plan = plan_revision(job, revision, read_config(job.output), source.config, split)
    show_revision(revision, plan, Console(), prune=prune)


def _ask(output: "Output") -> None:
    """Ask whether edited settings are meant: they may cost the whole job again."""
    console = Console()
    if sys.stdin.isatty() and console.is_terminal:
        if Confirm.ask("Render with these settings?", console=console):
            return
        raise typer.Exit(1)
    raise InputError(
        f"output {output.url}: its job has other settings; pass --yes to render again what depends"
        " on them, choose another --output, or pass --discard-other-job to delete the job"
    )
