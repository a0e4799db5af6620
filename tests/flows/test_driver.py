"""The driver's process sends stages to workers; it never imports what they compute with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.records import FilmScore
from tests.flows.conftest import ROOT
from tests.flows.inline import lay_out, render_inline
from tests.stages.tiny_chat import save_tiny_chat

WATCHED = """
import runpy, sys
sys.argv[0] = "storyreel"
try:
    runpy.run_module("storyreel", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("imported:", sorted({"torch", "diffusers", "outlines"} & set(sys.modules)))
"""


def run_watched(*arguments: str) -> list[str]:
    """The lines that a command prints; the last says which libraries of models it imported."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_flow_is_started_without_loading_torch() -> None:
    """A driver with torch takes seconds and hundreds of megabytes more, for every job."""
    code = (
        "import storyreel.flows.run.render, sys;"
        "print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_evaluate_scores_in_an_actor(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    render_inline(output)
    *_, imported = run_watched("evaluate", output.url)
    assert imported == "imported: []"
    assert len(list(read_manifests(output, "scores_films", FilmScore))) == 2
    assert output.names("scoring") == ["lock"]


@pytest.mark.parametrize("splitter", ["rules", pytest.param("chat", marks=pytest.mark.slow)])
def test_storyboard_splits_without_a_model_in_its_process(splitter: str, tmp_path: Path) -> None:
    stories = tmp_path / "stories.jsonl"
    row = {"story_id": "ann", "text": "Ann runs in the park. She sits on the bench."}
    stories.write_text(json.dumps(row))
    chat = {"model.path": save_tiny_chat(tmp_path / "chat"), "max_new_tokens": 60}
    settings = [f"prompts.chat.{key}={value}" for key, value in chat.items()]
    options = [word for s in settings for word in ("--set", s)] if splitter == "chat" else []
    *rows, imported = run_watched("storyboard", str(stories), "--jsonl", *options)
    assert imported == "imported: []"
    (board,) = map(json.loads, rows)
    assert len(board["panels"]) == 2


def test_plan_counts_without_a_model_in_its_process(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    output.publish("rates.json", json.dumps(dict.fromkeys(STAGES, RATE)).encode())
    *_, imported = run_watched("plan", str(tmp_path / "stories.jsonl"), "--rates", output.url)
    assert imported == "imported: []"


STAGES = ("prompts", "keyframes", "motion", "films")
RATE = {
    "num_units": 4,
    "mean_s": 1.0,
    "variance_s2": 0.1,
    "quantiles_s": [0.5, 1.5],
    "items_per_unit": 2.0,
    "bytes_per_unit": 10.0,
    "hardware": "CPU",
}
