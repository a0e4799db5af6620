"""The notebook of the examples runs as it is."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.stories import read_stories
from storyreel.stages.video import check_film
from tests.flows.conftest import ROOT

NOTEBOOK = ROOT / "examples/notebook.ipynb"


def test_the_notebook_renders_keyframes_and_a_film(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert check_film(tmp_path / "output/notebook/tom.mp4") == 2 * 15 + 12  # the last one stands


def test_the_notebook_is_kept_without_outputs() -> None:
    """Every run of it would otherwise change the repository."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") for cell in cells)


def test_the_notebook_is_no_story() -> None:
    assert len(list(read_stories(str(ROOT / "examples"), InputConfig()))) == 9
