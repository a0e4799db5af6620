"""The `storyreel` command.

Libraries that take seconds to import are imported by the commands that need them, so that `--help`
and a bad key answer at once.
"""

import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from storyreel.cluster.errors import PoolEndedError
from storyreel.flows.job.lock import LockedError

if TYPE_CHECKING:
    from storyreel.flows.job.config import RenderConfig
    from storyreel.flows.job.job import Job

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Stories in, films out: StoryDiffusion as a batch renderer.",
)

InputUrl = Annotated[
    str,
    typer.Argument(metavar="INPUT", help="JSONL, CSV, Parquet, YAML or text: file, folder or URL."),
]
OutputUrl = Annotated[str, typer.Option("--output", help="Folder or object-store URL of the job.")]
ConfigName = Annotated[
    str, typer.Option("--config", help="pocket, sd15, sd21, sdxl, or a TOML file.")
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="draft, fast, paper, or a TOML file to lay over it.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One value, such as films.fps=12; repeatable."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N input rows.")]
DiscardOtherJob = Annotated[
    bool,
    typer.Option("--discard-other-job", help="Delete another job that the output holds."),
]


@app.command()
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
    discard_other_job: DiscardOtherJob = False,
) -> None:
    """Render the stories of INPUT to films; a finished job does nothing, a broken one goes on."""
    from storyreel.flows.job.config import load_config
    from storyreel.flows.job.job import open_job
    from storyreel.flows.plans.sample import decide_at_terminal
    from storyreel.stages.output.storage import Output

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    job = open_job(
        Output(output_url),
        input_url,
        config,
        limit=limit,
        sample_size=sample or 0,
        replace=discard_other_job,
    )
    note = _go_on(job, config, sample or 0)
    if job.unfinished() and decide_at_terminal(job, Console()):
        note = _run(job, config)
    _tell(job, note)


def _go_on(job: "Job", config: "RenderConfig", sample_size: int = 0) -> str | None:
    """Render what may be rendered of a job that somebody starts now, if anything is left of it."""
    from storyreel.flows.plans.sample import shards_due, start

    due = job.unfinished() and shards_due(job, start(job, sample_size))
    return _run(job, config) if due else None


def _run(job: "Job", config: "RenderConfig") -> str | None:
    """Render what is left of a job and may be rendered now; what its run said in the end."""
    from storyreel.flows.run.render import run_render

    return run_render(job, config).message


def _tell(job: "Job", note: str | None) -> None:
    """Print the summary of a job, and the message of its run if stories are left."""
    from storyreel.flows.views.report import show_summary
    from storyreel.flows.views.summary import summarize

    console, summary = Console(), summarize(job)
    show_summary(job, summary, console)
    if note is not None and job.unfinished():
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if summary.num_failures:
        raise typer.Exit(1)


@app.command()
def storyboard(
    input_url: InputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Limit = None,
) -> None:
    """Write the stories of INPUT, split into panels, as JSONL rows to edit and render."""
    from storyreel.flows.commands.storyboards import storyboard_rows
    from storyreel.flows.job.config import load_config

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    for row in storyboard_rows(input_url, config, limit=limit):
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


JobUrl = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="Folder or object-store URL of a job.")
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(
    input_url: InputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates", metavar="OUTPUT", help="An earlier job of this configuration; needed."
        ),
    ] = None,
    output_url: Annotated[
        str | None, typer.Option("--output", help="Where the job is to go, to see if it fits.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what rendering INPUT takes from the rates of an earlier job: hours, nights, GB."""
    from storyreel.flows.job.config import load_config
    from storyreel.flows.plans.planning import plan_input
    from storyreel.flows.plans.sample import show_plan

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    found = plan_input(input_url, config, rates, output_url)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
    else:
        show_plan(found, Console())


@app.command()
def status(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Show the progress of the job at OUTPUT, who is running it, and its failures."""
    from storyreel.flows.job.status import find_status
    from storyreel.flows.views.report import show_status

    found = find_status(output_url)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(found), ensure_ascii=False) + "\n")
    else:
        show_status(found, Console())


@app.command()
def pause(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Let nothing new start; units in flight are finished, and GPUs are let go after a while."""
    _steer(output_url, "paused", as_json, paused=True)


@app.command()
def resume(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Take back a pause or a cancellation; a run that has ended already is not started by this."""
    _steer(output_url, "may go on", as_json, paused=False, cancel="no")


@app.command()
def cancel(
    output_url: JobUrl,
    now: Annotated[bool, typer.Option("--now", help="Throw away what is in flight.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the job's run after the units in flight; what is done is kept, and can be resumed."""
    _steer(output_url, "is cancelled", as_json, cancel="now" if now else "drain")


@app.command("set")
def set_(
    output_url: JobUrl,
    priority: Annotated[
        int | None, typer.Option("--priority", help="9 goes first, 1 last.")
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="POOL=N", help="Actors of a pool; repeatable."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Hours, such as '22:00-06:00 Europe/Berlin', or 'always'."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's priority, actors or window; its running flow follows within seconds."""
    from storyreel.flows.job.control import parse_limits

    asked = {"priority": priority, "limits": parse_limits(limits or ()), "window": window}
    changes = {key: value for key, value in asked.items() if value not in (None, {})}
    if not changes:
        raise ValueError("nothing to change: give --priority, --limit or --window")
    _steer(output_url, "is changed", as_json, **changes)


@app.command()
def approve(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Let the rest of a job be rendered after its sample."""
    _decide(output_url, as_json, approved=True)


@app.command()
def reject(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Let a job end with its sample."""
    _decide(output_url, as_json, approved=False)


def _steer(output_url: str, what: str, as_json: bool, **changes: Any) -> None:
    from storyreel.flows.job.control import update_control
    from storyreel.stages.output.storage import Output

    _show_control(output_url, what, update_control(Output(output_url), **changes), as_json)


def _decide(output_url: str, as_json: bool, *, approved: bool) -> None:
    from storyreel.flows.plans.sample import decide
    from storyreel.stages.output.storage import Output

    what = "is approved" if approved else "is rejected"
    _show_control(output_url, what, decide(Output(output_url), approved=approved), as_json)


def _show_control(output_url: str, what: str, control: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(control.model_dump_json() + "\n")
    else:
        Console().print(f"{output_url}: {what}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def verify(
    output_url: JobUrl,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Audit a job by checksum: every story once, every file whole, no orphan; else exit code 1."""
    from storyreel.flows.audit.verify import show_audit
    from storyreel.flows.audit.verify import verify as audit_of
    from storyreel.stages.output.storage import Output

    audit = audit_of(Output(output_url))
    if as_json:
        sys.stdout.write(json.dumps(audit.as_json(), ensure_ascii=False) + "\n")
    else:
        show_audit(audit, Console())
    if audit.problems:
        raise typer.Exit(1)


@app.command()
def retry(
    output_url: JobUrl,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Only what this stage gave up; repeatable.")
    ] = None,
    error_classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class of errors; repeatable.")
    ] = None,
    story_ids: Annotated[
        list[str] | None, typer.Option("--story", help="Only this story; repeatable.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Try the quarantined stories of OUTPUT again, with the configuration of their job."""
    from storyreel.flows.audit.retry import Selection, open_for_retry
    from storyreel.flows.job.job import read_config, read_job
    from storyreel.stages.output.storage import Output

    output = Output(output_url)
    config = read_config(output, overrides or ())
    selection = Selection(
        stages=frozenset(stages or ()),
        error_classes=frozenset(error_classes or ()),
        story_ids=frozenset(story_ids or ()),
    )
    chosen = open_for_retry(output, selection)
    Console().print(f"{len(chosen)} stories are tried again", highlight=False)
    job = read_job(output)
    _tell(job, _go_on(job, config))


@app.command()
def repair(output_url: JobUrl, overrides: Overrides = None) -> None:
    """Make again what `verify` finds damaged or missing at OUTPUT."""
    from storyreel.flows.audit.repair import open_for_repair
    from storyreel.flows.job.job import read_config, read_job
    from storyreel.stages.output.storage import Output

    output = Output(output_url)
    config = read_config(output, overrides or ())
    damaged = open_for_repair(output)
    Console().print(f"{len(damaged)} damaged files are made again", highlight=False)
    job = read_job(output)
    _tell(job, _go_on(job, config))


ServerFile = Annotated[
    Path | None,
    typer.Option("--server", help="TOML file with the [server] section; STORYREEL_SERVER names it"),
]


@app.command()
def serve(server: ServerFile = None) -> None:
    """Bring up Prefect with its UI, a worker, and the gallery; ends with Ctrl-C."""
    from storyreel.flows.night.serve import serve as serve_until_stopped
    from storyreel.flows.night.server_config import load_server_config

    serve_until_stopped(load_server_config(server), Console())


@app.command()
def submit(
    input_url: InputUrl,
    output_url: OutputUrl,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Limit = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, max=100, help="Render N stories first, then wait for approval."
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option("--priority", min=1, max=9, help="9 goes first, 1 last; 5 is usual."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Hours in which it may run: '22:00-06:00 Europe/Berlin'."),
    ] = None,
    server: ServerFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put a job into the queue of a running `storyreel serve`."""
    from storyreel.flows.night.server_config import server_to_talk_to
    from storyreel.flows.night.submit import Submission, show_receipt
    from storyreel.flows.night.submit import submit as submit_to

    submission = Submission(
        input_url=input_url,
        output_url=output_url,
        config_name=config_name,
        profile=profile,
        overrides=tuple(overrides or ()),
        limit=limit,
        sample=sample,
        priority=priority,
        window=window,
    )
    show_receipt(submit_to(submission, server_to_talk_to(server)), as_json=as_json)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option("--cron", help="When nights start, such as '0 22 * * *'.")],
    timezone: Annotated[str, typer.Option("--timezone", help="IANA name: Europe/Berlin.")],
    window_end: Annotated[
        str, typer.Option("--window-end", help="When the last unit must be over: 06:00.")
    ],
    server: ServerFile = None,
) -> None:
    """Let a running `storyreel serve` go through its jobs every night."""
    from storyreel.flows.night.schedule import Nights, schedule_nights
    from storyreel.flows.night.server_config import server_to_talk_to

    nights = Nights(cron=cron, timezone=timezone, window_end=window_end)
    url = schedule_nights(nights, server_to_talk_to(server))
    Console().print(f"every night {nights.window()}: {url}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    output_url: JobUrl,
    overrides: Overrides = None,
    config_name: Annotated[
        str | None,
        typer.Option("--config", help="Take [scoring] from here, not from the job's own config."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Folder of pictures for the Frechet distance."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score what OUTPUT has rendered: consistency, text, motion, copies; resumes by shard."""
    from storyreel.flows.job.config import load_config
    from storyreel.flows.job.job import read_config, read_job
    from storyreel.flows.run.evaluate import evaluate as evaluate_job
    from storyreel.flows.views.scores_table import show_evaluation
    from storyreel.stages.output.storage import Output

    job = read_job(Output(output_url))
    if config_name is None:
        config = read_config(job.output, overrides or ())
    else:
        config = load_config(config_name, overrides=overrides or ())
    evaluation = evaluate_job(job, config.scoring, reference)
    if as_json:
        sys.stdout.write(json.dumps(evaluation.as_json(), ensure_ascii=False) + "\n")
    else:
        show_evaluation(evaluation, Console())


@app.command()
def doctor(
    output_url: Annotated[
        str | None, typer.Option("--output", help="Where is to be rendered to.")
    ] = None,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check what a render needs: versions, GPUs, models, cluster, storage, Prefect."""
    from storyreel.flows.commands.doctor import Verdict, diagnose, show
    from storyreel.flows.job.config import load_config

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    findings = list(diagnose(config, output_url))
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
    else:
        show(findings, Console())
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; what the user got wrong is a line that says so, not a traceback.

    The exit code 1 is kept for what a command found: stories that failed, or problems.
    """
    # Prefect logs for its UI; in the terminal the progress bars and the last lines tell it all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # Weights that a part lacks are an error of ours; the list of those it does not need is noise.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except (ValueError, ConnectionError, LockedError, PoolEndedError) as error:
        _say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        sys.exit(130)
    except Exception:  # a mistake of ours, or a refusal that only its store or server knows
        traceback.print_exc()
        sys.exit(2)


def _say(message: str) -> None:
    Console(stderr=True).print(
        f"storyreel: {message}", markup=False, highlight=False, soft_wrap=True
    )
