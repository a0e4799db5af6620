"""The `storyreel` command: its options, and how errors become messages and exit codes."""

import os
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

import storyreel
from storyreel.flows.commands import audit, models, night, render, steer, train
from storyreel.stages.errors import StoryreelError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich markup would swallow words in brackets, such as [server].
    rich_markup_mode=None,
    help="Render a dataset of stories to films with consistent characters (StoryDiffusion).",
)

COMMANDS = (
    render.render,
    render.continue_,
    render.plan,
    render.storyboard,
    steer.status,
    steer.pause,
    steer.resume,
    steer.cancel,
    steer.set_,
    steer.approve,
    steer.reject,
    audit.verify,
    audit.repair,
    audit.retry,
    audit.prune,
    audit.evaluate,
    audit.doctor,
    night.serve,
    night.submit,
    night.schedule,
)

for command in COMMANDS:
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(train.app, name="train")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"storyreel {storyreel.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command. Errors of the user are one line on stderr, without a traceback.

    Exit code 2 means that the command could not begin or continue; 1 is reserved for what a command
    found: failed stories, or problems.
    """
    # Prefect logs for its UI; progress bars and the final summary say the same in the terminal.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # Missing weights raise in our own code; transformers' list of unused weights is noise.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    _ask_no_proxy_for_this_machine()
    try:
        app()
    except (StoryreelError, ValueError, ConnectionError) as error:
        _print_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        _print_error("interrupted; run the same command again to continue")
        sys.exit(130)
    except Exception:  # a bug, or an error that only its store or server understands
        traceback.print_exc()
        sys.exit(2)


def _ask_no_proxy_for_this_machine() -> None:
    """Let no proxy of the environment stand between our processes, as Prefect's server and Ray."""
    # Libraries look at one spelling or the other.
    hosts = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    value = ",".join(filter(None, [*dict.fromkeys(hosts), "localhost", "127.0.0.1", "::1"]))
    os.environ.update(no_proxy=value, NO_PROXY=value)


def _print_error(message: str) -> None:
    Console(stderr=True).print(
        f"storyreel: {message}", markup=False, highlight=False, soft_wrap=True
    )
