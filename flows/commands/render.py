"""Commands that read stories: render, plan, storyboard."""

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from storyreel.flows.commands.options import (
    AsJson,
    ConfigName,
    InputUrl,
    JobUrl,
    Limit,
    OutputUrl,
    Overrides,
    Profile,
)
from storyreel.flows.commands.outcome import render_and_report


def render(
    input_url: InputUrl,
    output_url: OutputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Limit = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, max=100, help="Render N stories first, then ask."),
    ] = None,
    discard_other_job: Annotated[
        bool,
        typer.Option("--discard-other-job", help="Delete a different job found at the output."),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove stories that INPUT does not have any more.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Render again what depends on edited settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what an edit of the job renders again.")
    ] = False,
) -> None:
    """Render the stories of INPUT to films.

    An interrupted job continues where it stopped; a finished job is left as it is. If INPUT or a
    setting was edited since, what depends on the edit is rendered again, and nothing else.
    """
    from storyreel.flows.commands.revise import edit_in_place
    from storyreel.flows.edits.revision import Source
    from storyreel.flows.job.config import load_config
    from storyreel.flows.job.job import open_job
    from storyreel.stages.output.storage import Output

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    output = Output(output_url)
    source = Source(input_url=input_url, config=config, limit=limit)
    job = None
    if not discard_other_job:
        job = edit_in_place(output, source, prune=prune, yes=yes, dry_run=dry_run)
    if dry_run:
        sys.stdout.write("Nothing of a job is edited\n")
        return
    job = job or open_job(
        output,
        input_url,
        config,
        limit=limit,
        sample_size=sample or 0,
        replace=discard_other_job,
    )
    render_and_report(job, config, sample or 0)


def continue_(output_url: JobUrl, overrides: Overrides = None) -> None:
    """Render what is left of the job at OUTPUT, without its input.

    `render` does the same, and reads the input again if it was changed.
    """
    from storyreel.flows.job.job import read_config, read_laid_out_job
    from storyreel.stages.output.storage import Output

    output = Output(output_url)
    config = read_config(output, overrides or ())
    render_and_report(read_laid_out_job(output, config), config)


def plan(
    input_url: InputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates",
            metavar="OUTPUT",
            help="Required: an earlier job of the same configuration, with its measured rates.",
        ),
    ] = None,
    output_url: Annotated[
        str | None,
        typer.Option("--output", help="Output of the planned job, to check its free space."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate hours, nights and gigabytes for INPUT.

    The estimate uses the rates that an earlier job of the same configuration measured.
    """
    from storyreel.flows.job.config import load_config
    from storyreel.flows.plans.planning import plan_input
    from storyreel.flows.views.plans import show_plan

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    found = plan_input(input_url, config, rates, output_url)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
    else:
        show_plan(found, Console())


def storyboard(
    input_url: InputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Limit = None,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Write JSONL, for programs, in place of YAML.")
    ] = False,
) -> None:
    """Split stories into panels, as YAML to edit.

    The rows are written to standard output and can be rendered in place of INPUT; what is unsure or
    was refused is told on standard error. The exit code is 1 if no row is a story.
    """
    from storyreel.flows.commands.storyboards import Report, storyboard_rows, to_yaml
    from storyreel.flows.job.config import load_config

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    report = Report()
    for row in storyboard_rows(input_url, config, limit=limit, report=report):
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n" if as_jsonl else to_yaml(row))
    for line in report.lines():
        sys.stderr.write(f"storyreel: {line}\n")
    if not report.num_stories:
        raise typer.Exit(1)
