"""Commands about pretrained weights."""

from typing import Annotated

import typer
from rich.console import Console

from storyreel.flows.commands.options import Overrides, Profile

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Pretrained weights.")


@app.callback()
def _group() -> None:
    """With a callback a single command keeps its name."""


@app.command()
def fetch(
    config_name: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="Name (pocket, sd15, sd21, sdxl) or TOML file."),
    ],
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Fetch the weights that a configuration names, so that this machine can render offline.

    Then set HF_HUB_OFFLINE=1 there, and let `doctor` check what was fetched.
    """
    from storyreel.flows.job.config import load_config
    from storyreel.stages.models.weights.fetching import fetch as fetch_weights

    config = load_config(config_name, profile=profile, overrides=overrides or ())
    console = Console()
    for place in fetch_weights(config):
        console.print(place, markup=False, highlight=False, soft_wrap=True)
