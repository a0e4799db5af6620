"""Commands that check a finished job or reopen it: verify, retry, repair, evaluate, doctor."""

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from storyreel.flows.commands.options import AsJson, ConfigName, JobUrl, Overrides, Profile
from storyreel.flows.commands.outcome import continue_job, report_outcome


def verify(output_url: JobUrl, as_json: AsJson = False) -> None:
    """Check every record and checksum of a job.

    Exit code 1 if a problem is found.
    """
    from storyreel.flows.audit.verify import verify as audit_of
    from storyreel.flows.views.audit import show_audit
    from storyreel.stages.output.storage import Output

    audit = audit_of(Output(output_url))
    if as_json:
        sys.stdout.write(json.dumps(audit.as_json(), ensure_ascii=False) + "\n")
    else:
        show_audit(audit, Console())
    if audit.problems:
        raise typer.Exit(1)


def retry(
    output_url: JobUrl,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Only failures of this stage; repeatable.")
    ] = None,
    error_classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this error class; repeatable.")
    ] = None,
    story_ids: Annotated[
        list[str] | None, typer.Option("--story", help="Only this story; repeatable.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Render the failed stories of OUTPUT again."""
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
    report_outcome(job, continue_job(job, config))


def repair(output_url: JobUrl, overrides: Overrides = None) -> None:
    """Render again what `verify` finds damaged at OUTPUT."""
    from storyreel.flows.audit.repair import open_for_repair
    from storyreel.flows.job.job import read_config, read_job
    from storyreel.stages.output.storage import Output

    output = Output(output_url)
    config = read_config(output, overrides or ())
    damaged = open_for_repair(output)
    Console().print(f"{len(damaged)} damaged files are made again", highlight=False)
    job = read_job(output)
    report_outcome(job, continue_job(job, config))


def prune(output_url: JobUrl) -> None:
    """Remove what edits of OUTPUT have left.

    These are earlier films, pictures, clips and manifests.
    """
    from storyreel.flows.edits.pruning import prune as prune_job
    from storyreel.stages.output.storage import Output

    done = prune_job(Output(output_url))
    told = f"{done.num_files} files removed ({done.num_bytes / 1e6:.1f} MB)"
    if done.num_unfinished:
        told += f"; {done.num_unfinished} shards are not finished yet and keep theirs"
    Console().print(told, highlight=False)


def evaluate(
    output_url: JobUrl,
    overrides: Overrides = None,
    config_name: Annotated[
        str | None,
        typer.Option("--config", help="Configuration whose [scoring] is used; default: the job's."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Folder of pictures for the Frechet distance."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score the films of OUTPUT, shard by shard.

    Measures consistency, agreement with the texts, motion and copies. Scored shards are kept.
    """
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
    evaluation = evaluate_job(job, config, reference)
    if as_json:
        sys.stdout.write(json.dumps(evaluation.as_json(), ensure_ascii=False) + "\n")
    else:
        show_evaluation(evaluation, Console())


def doctor(
    output_url: Annotated[
        str | None, typer.Option("--output", help="Output to check for write access.")
    ] = None,
    config_name: ConfigName = "pocket",
    profile: Profile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check what a render needs before a night is spent on it.

    Checks versions, GPUs, models, cluster, storage and Prefect.
    """
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
