"""Requests that a job sends to an object store, which bills and limits them."""

from pathlib import Path

from benchmarks.object_store import ObjectStore
from storyreel.flows.job.lock import held
from storyreel.stages.output.storage import Output
from tests.flows.inline import PANELS, lay_out, render_inline

FILES = PANELS + (PANELS - 1) + 3
"""Files that the simulated stages make of a story: keyframes, clips, film, subtitles, sheet."""

UNITS = 3 + (PANELS - 1)
"""Prompts, keyframes, film, and a shot between two panels each."""


def test_a_story_costs_a_request_for_each_file_and_three_for_each_unit(
    store: ObjectStore, tmp_path: Path
) -> None:
    """Of a unit: the record of its attempt, the look at the lock, its commit record."""
    few, many = (_requests(store, tmp_path / f"{number}", number) for number in (2, 6))
    assert (many - few) / 4 == FILES + 3 * UNITS


def _requests(store: ObjectStore, folder: Path, num_stories: int) -> int:
    output = Output(f"s3://films/{num_stories}")
    lay_out(output, folder, num_stories, shard_size=num_stories)
    before = store.seen.total()
    with held(output, "night") as mine:
        render_inline(mine)
    return store.seen.total() - before
