"""The `storyreel` command.

Libraries that take seconds to import are imported by the commands that need them, so that `--help`
and a bad key answer at once.
"""

import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from cluster.errors import PoolEndedError

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
    discard_other_job: DiscardOtherJob = False,
) -> None:
    """Render the stories of INPUT to films; a finished job does nothing, a broken one goes on."""
    from flows.config import load_config
    from flows.job import open_job
    from flows.report import show_summary, summarize
    from stages.storage import Output

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    job = open_job(Output(output_url), input_url, config, limit=limit, replace=discard_other_job)
    if job.unfinished():
        from flows.render import run_render

        run_render(job, config)
    summary = summarize(job)
    show_summary(job, summary, Console())
    if summary.failures:
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
    from flows.config import load_config
    from flows.storyboards import storyboard_rows

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    for row in storyboard_rows(input_url, config, limit=limit):
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    """Run the command; what the user got wrong is a line that says so, not a traceback."""
    # Prefect logs for its UI; in the terminal the progress bars and the last lines tell it all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    try:
        app()
    except (ValueError, ConnectionError, PoolEndedError) as error:
        _say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        sys.exit(130)


def _say(message: str) -> None:
    Console(stderr=True).print(
        f"storyreel: {message}", markup=False, highlight=False, soft_wrap=True
    )
