"""Writes docs/fidelity.md and its picture grids from the results."""

import dataclasses
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.fidelity import clips, keyframes
from benchmarks.fidelity.keyframes import gate
from benchmarks.fidelity.pictures import save_clips, save_film, save_stories, save_twins
from benchmarks.fidelity.results import Setup
from benchmarks.fidelity.summaries import clip_estimate
from benchmarks.fidelity.tables import (
    ablation_rows,
    clip_rows,
    consistency_table,
    estimator_table,
    films_table,
    following_table,
    format_estimate,
    gate_results,
    gate_table,
    liveliness_table,
    similarity_table,
    story_rows,
    token_results,
)
from benchmarks.fidelity.targets import targets_table
from storyreel.stages.models.config import model_revision
from storyreel.stages.models.unet_attention import BLOCKS

FOLDER = Path(__file__).parent
MISSES = FOLDER / "misses.md"
"""Why targets are missed, and what was tried: written by people."""

Section = dict[str, Any]
"""The values of a section of the template."""


def write_document(setup: Setup, directory: Path) -> Path:
    """Write `fidelity.md` and `fidelity/*.png`; sections without results are left out.

    Returns:
        The path of the page.
    """
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701, the page is markdown made of our own figures
    )
    page = templates.get_template("fidelity.md.j2").render(
        setup=setup,
        first=keyframes.FIRST,
        revision=model_revision(
            setup.config.keyframes.model.path, setup.config.keyframes.model.revision
        ),
        targets=targets_table(setup),
        misses=MISSES.read_text(encoding="utf-8"),
        estimator=estimator_table(setup),
        gate=_gate(setup, directory),
        stories=_stories(setup, directory),
        ablation=_ablation(setup),
        clips=[section for kind in clips.KINDS if (section := _clips(setup, directory, kind))],
        films=_films(setup, directory),
        definitions=[(module.__doc__ or "").strip() for module in (keyframes, clips)],
    )
    path = directory / "fidelity.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _gate(setup: Setup, directory: Path) -> Section | None:
    measured = gate_results(setup, gate(setup).row)
    if not measured:
        return None
    prompts = save_twins(setup, directory)
    return {"num_pictures": len(measured), "table": gate_table(setup), "prompts": prompts}


def _stories(setup: Setup, directory: Path) -> Section | None:
    if not (rows := story_rows(setup)):
        return None
    return {
        "consistency": consistency_table(rows),
        "following": following_table(rows),
        "grids": [dataclasses.asdict(grid) for grid in save_stories(setup, directory)],
    }


def _ablation(setup: Setup) -> Section | None:
    rows = ablation_rows(setup)
    if len(rows) < 2:
        return None
    return {
        "where": _where(setup),
        "consistency": consistency_table(rows),
        "following": following_table(rows),
    }


def _where(setup: Setup) -> str:
    """The layers and steps in which the configuration lets panels read each other."""
    consistency = setup.config.keyframes.consistency
    names = {BLOCKS: "all layers", ("up_blocks",): "the decoder only"}
    layers = names.get(consistency.layers, ", ".join(consistency.layers))
    which = {"both": "both branches", "positive": "the positive branch of the guidance only"}
    steps = f"from {consistency.start:.0%} to {consistency.end:.0%} of the steps"
    return f"without subjects, {layers}, {which[consistency.branches]}, {steps}"


def _clips(setup: Setup, directory: Path, kind: str) -> Section | None:
    if not (rows := clip_rows(setup, kind)):
        return None
    errors = token_results(setup, kind)
    names = ("predictor", "linear") if errors else ()
    return {
        "kind": kind,
        "where": "inside one place" if kind == "inside" else "between two places",
        "similarity": similarity_table(rows),
        "liveliness": liveliness_table(rows),
        "tokens": {n: format_estimate(clip_estimate(errors, n), 3) for n in names},
        "grid": save_clips(setup, directory, kind),
    }


def _films(setup: Setup, directory: Path) -> Section | None:
    if (table := films_table(setup)) is None:
        return None
    save_film(setup, directory)
    return {"num_stories": len(clips.film_stories(setup)), "table": table}
