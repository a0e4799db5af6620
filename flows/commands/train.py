"""Commands that train models: train motion."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Train a model on data of your own.")


@app.command()
def motion(
    videos: Annotated[
        str, typer.Argument(metavar="VIDEOS", help="Folder or Parquet table of videos; any URL.")
    ],
    output: Annotated[
        Path, typer.Option("--output", help="Folder of the run; all workers must see it.")
    ],
    config_name: Annotated[
        str, typer.Option("--config", help="Name (pocket, paper) or TOML file.")
    ] = "pocket",
    address: Annotated[
        str | None, typer.Option("--address", help="HOST:PORT of a Ray cluster; default: none.")
    ] = None,
) -> None:
    """Train a motion predictor on VIDEOS; an interrupted run goes on where it stopped."""
    from storyreel.cluster.config import ClusterConfig
    from storyreel.flows.training.motion import run_motion_training
    from storyreel.stages.errors import InputError
    from storyreel.stages.models.config import PACKAGE_ROOT
    from storyreel.training.motion.config import MotionTrainingConfig

    bundled = PACKAGE_ROOT / "configs" / "training" / "motion" / f"{config_name}.toml"
    path = bundled if bundled.is_file() else Path(config_name)
    if not path.is_file():
        raise InputError(f"config {config_name!r}: is neither a file nor a bundled configuration")
    config = MotionTrainingConfig.read(path)
    trained = run_motion_training(config, videos, output, ClusterConfig(address=address))
    error = trained.error
    Console().print(
        f"{trained.num_steps} steps; held-out token error {error.predicted:.4g}, of linear"
        f" interpolation {error.interpolated:.4g}\nthe trained parts and their card:"
        f" {output / 'export'}",
        highlight=False,
    )
