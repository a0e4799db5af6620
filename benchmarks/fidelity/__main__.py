"""`python -m benchmarks.fidelity`: measure a model family and write docs/fidelity.md.

Every unit's result is kept in the work folder: a stopped run goes on, and runs of different
experiments can go side by side. `--only document` writes the page from what is there.
"""

import argparse
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fidelity.document import write_document
from benchmarks.fidelity.experiments import EXPERIMENTS, run, start_logging
from benchmarks.fidelity.results import Setup
from storyreel.flows.job.config import load_config
from storyreel.stages.models.config import model_revision

AMOUNTS = {
    "stories": (16, "held-out stories"),
    "ablation": (10, "of them, how many for the ablation"),
    "panels": (6, "panels of a story"),
    "seeds": (1, "times that each story is rendered"),
    "twins": (60, "pictures of the gate"),
    "clips": (12, "clips of each kind"),
    "films": (3, "stories that become films"),
    "true": (400, "true pictures that check the estimators"),
}
"""The options that say how much is measured: default and meaning."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--config", default="pocket", help="configuration: its name or file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override of the config"
    )
    parser.add_argument("--work", type=Path, default=Path("build/fidelity"), help="results")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument(
        "--only", action="append", choices=(*EXPERIMENTS, "document"), help="default: everything"
    )
    parser.add_argument("--processes", type=int, default=2, help="parts run at the same time")
    for name, (default, text) in AMOUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    return parser.parse_args(arguments)


def setup_of(options: argparse.Namespace) -> Setup:
    """The measurements that the command line asks for."""
    config = load_config(options.config, overrides=options.set)
    revision = model_revision(config.keyframes.model.path, config.keyframes.model.revision)
    return Setup(
        config=config,
        work=options.work / revision.replace("/", "-")[:12],
        num_stories=options.stories,
        num_ablation=min(options.ablation, options.stories),
        num_panels=options.panels,
        num_seeds=options.seeds,
        num_twins=options.twins,
        num_clips=options.clips,
        num_films=min(options.films, options.stories),
        num_true=options.true,
        command=command_of(options),
    )


def command_of(options: argparse.Namespace) -> str:
    """The command that measures the same anew; where it keeps its results changes none of them."""
    changes = [f"--set={change}" for change in options.set]
    amounts = [f"--{name}={getattr(options, name)}" for name in AMOUNTS]
    module = ["python", "-m", "benchmarks.fidelity"]
    return shlex.join([*module, f"--config={options.config}", *changes, *amounts])


def main() -> None:
    """Measure, then write the page."""
    options = parse()
    start_logging()
    setup = setup_of(options)
    wanted = options.only or EXPERIMENTS
    run(setup, [name for name in EXPERIMENTS if name in wanted], options.processes)
    logging.info("wrote %s", write_document(setup, options.output))


if __name__ == "__main__":
    main()
