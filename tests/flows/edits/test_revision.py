"""Edits of a job in place: exactly what depends on an edit is rendered again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulated import CONFIG
from storyreel.flows.audit.verify import verify
from storyreel.flows.edits.pruning import prune
from storyreel.flows.edits.revision import Source, find_edited, find_revision, revise
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import open_job, read_config, read_job
from storyreel.flows.plans.revision import plan_revision
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Film
from storyreel.stages.output.storage import Output
from tests.flows.inline import SIMULATED, InlineRunner

NUM_STORIES = 300
SHARD_SIZE = 25

Rows = list[dict[str, Any]]


def rows(num_stories: int) -> Rows:
    return [
        {
            "story_id": f"s{i:03d}",
            "characters": [{"name": "Fox", "description": "a red fox"}],
            "panels": [
                {"text": f"[Fox] sees thing {n}", "caption": f"Thing {n}"} for n in range(3)
            ],
        }
        for i in range(num_stories)
    ]


def source(folder: Path, stories: Rows, *overrides: str) -> Source:
    path = folder / "stories.jsonl"
    path.write_text("\n".join(map(json.dumps, stories)))
    (folder / "config.toml").write_text(CONFIG)
    settings = [f"execution.shard_size={SHARD_SIZE}", *overrides]
    return Source(
        input_url=str(path), config=load_config(str(folder / "config.toml"), overrides=settings)
    )


def render(output: Output, at_most: int | None = None) -> list[str]:
    """Render what is left inline; the units that were tried."""
    job = read_job(output, SIMULATED)
    runner = Killed(job, at_most) if at_most is not None else InlineRunner(job)
    try:
        for shard in job.unfinished():
            runner.render(shard)
    except KeyboardInterrupt:
        pass
    return runner.tried


class Killed(InlineRunner):
    """Is killed before it tries one more unit than it may."""

    def __init__(self, job: Any, at_most: int) -> None:
        super().__init__(job)
        self._left = at_most

    def submit(self, work: Any, priority: tuple[int, ...]) -> Any:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().submit(work, priority)


def edit(output: Output, wanted: Source, *, prune: bool = False) -> dict[str, int]:
    """Edit the job as the command does; the units that the plan renders again or anew."""
    job = find_edited(output, wanted, SIMULATED)
    assert job is not None
    revision = find_revision(job, wanted)
    split: Any = SIMULATED["prompts"].factory("", wanted.config)()
    plan = plan_revision(job, revision, read_config(output), wanted.config, split)
    revise(job, wanted, revision, prune=prune)
    return {stage.stage: stage.again + stage.new for stage in plan}


def files(output: Output) -> dict[str, tuple[int, bytes]]:
    """Time and content of all pictures, clips and films."""
    folder = Path(output.location(""))
    found = (p for name in ("keyframes", "clips", "films") for p in (folder / name).rglob("*.*"))
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Output, Path, Rows]:
    """A finished job that each test edits further, and the rows that it has now."""
    folder = tmp_path_factory.mktemp("revision")
    output, stories = Output(str(folder / "job")), rows(NUM_STORIES)
    wanted = source(folder, stories)
    open_job(output, wanted.input_url, wanted.config)
    render(output)
    return output, folder, stories


def edit_prompt(stories: Rows) -> set[str]:
    stories[7]["panels"][0]["text"] = "[Fox] sees a bridge"
    # Only the first keyframe comes out differently, so the second clip stays.
    return {"prompts/s007", "keyframes/s007", "motion/s007.0000", "films/s007"}


def edit_caption(stories: Rows) -> set[str]:
    stories[8]["panels"][1]["caption"] = "Then"
    return {"prompts/s008", "films/s008"}


def edit_shot(stories: Rows) -> set[str]:
    stories[9]["panels"][1]["shot"] = "cut"
    return {"prompts/s009", "motion/s009.0001", "films/s009"}


def edit_character(stories: Rows) -> set[str]:
    stories[10]["characters"][0]["description"] = "a grey fox"
    clips = {"motion/s010.0000", "motion/s010.0001"}
    return {"prompts/s010", "keyframes/s010", "films/s010"} | clips


def add_ten(stories: Rows) -> set[str]:
    num_stories = len(stories)
    stories += [{**row, "story_id": f"n{i:03d}"} for i, row in enumerate(rows(10))]
    names = {row["story_id"] for row in stories[num_stories:]}
    clips = {f"motion/{name}.{shot:04d}" for name in names for shot in range(2)}
    return clips | {f"{s}/{name}" for name in names for s in ("prompts", "keyframes", "films")}


EDITS = [edit_prompt, edit_caption, edit_shot, edit_character, add_ten]


@pytest.mark.parametrize("apply", EDITS)
def test_an_edited_row_renders_what_depends_on_it_and_touches_no_other_file(
    apply: Callable[[Rows], set[str]], finished: tuple[Output, Path, Rows]
) -> None:
    output, folder, stories = finished
    before = files(output)
    expected = apply(stories)
    planned = edit(output, source(folder, stories))
    tried = render(output)
    assert set(tried) == expected
    assert len(tried) == len(expected)
    for stage in SIMULATED.names:
        assert planned[stage] >= sum(name.startswith(f"{stage}/") for name in tried)
    after = files(output)
    assert {path: after[path] for path in before} == before, "an earlier file was changed"
    assert verify(output, SIMULATED).problems == []
    assert find_edited(output, source(folder, stories), SIMULATED) is None or edit_is_empty(
        output, source(folder, stories)
    )


def edit_is_empty(output: Output, wanted: Source) -> bool:
    return find_revision(read_job(output, SIMULATED), wanted).is_empty(prune=True)


def test_an_edited_setting_renders_its_stages_only(finished: tuple[Output, Path, Rows]) -> None:
    output, folder, stories = finished
    before = files(output)
    wanted = source(folder, stories, "films.crf=30")
    revision = find_revision(read_job(output, SIMULATED), wanted)
    assert revision.settings == ("films.crf: 18 there, 30 here",)
    planned = edit(output, wanted)
    tried = render(output)
    assert sorted(tried) == sorted(f"films/{row['story_id']}" for row in stories)
    assert planned == {"prompts": 0, "keyframes": 0, "motion": 0, "films": len(stories)}
    after = files(output)
    assert {path: after[path] for path in before} == before
    assert verify(output, SIMULATED).problems == []
    source(folder, stories)


def test_an_edit_that_is_killed_in_the_middle_goes_on_where_it_stopped(tmp_path: Path) -> None:
    output, stories = Output(str(tmp_path / "job")), rows(10)
    wanted = source(tmp_path, stories)
    open_job(output, wanted.input_url, wanted.config)
    render(output)
    expected = edit_prompt(stories) | edit_shot(stories)
    edit(output, source(tmp_path, stories))
    tried: list[str] = []
    while more := render(output, at_most=1):
        tried += more[:1] if len(tried) < len(expected) else more
    assert sorted(tried) == sorted(expected)
    assert verify(output, SIMULATED).problems == []


def test_a_story_that_is_gone_stays_until_it_is_pruned(tmp_path: Path) -> None:
    output, stories = Output(str(tmp_path / "job")), rows(6)
    wanted = source(tmp_path, stories)
    open_job(output, wanted.input_url, wanted.config)
    render(output)
    wanted = source(tmp_path, stories[:4] + stories[5:])
    edit(output, wanted)
    assert render(output) == []
    assert read_job(output).num_stories == 6
    revision = find_revision(read_job(output, SIMULATED), wanted)
    assert list(revision.gone.values()) == [("s004",)]
    revise(read_job(output, SIMULATED), wanted, revision, prune=True)
    assert render(output) == []
    films = [film.story_id for film in read_manifests(output, "films", Film)]
    assert films == ["s000", "s001", "s002", "s003", "s005"]
    assert read_job(output).num_stories == 5
    assert verify(output, SIMULATED).problems == []


def test_what_edits_have_left_is_removed_on_request_and_nothing_else(tmp_path: Path) -> None:
    output, stories = Output(str(tmp_path / "job")), rows(6)
    wanted = source(tmp_path, stories)
    open_job(output, wanted.input_url, wanted.config)
    render(output)
    stories[2]["panels"][0]["text"] = "[Fox] sees a bridge"
    edit(output, source(tmp_path, stories[:4] + stories[5:]), prune=True)
    assert prune(output, SIMULATED).num_unfinished == 1  # it may need what it had
    render(output)
    before = files(output)
    done = prune(output, SIMULATED)
    after = files(output)
    assert done.num_files == len(before) - len(after) > 0
    assert {path: before[path] for path in after} == after
    assert not [path for path in after if "s004" in path]
    assert verify(output, SIMULATED).problems == []
    assert prune(output, SIMULATED).num_files == 0
    stories[2]["panels"][0]["text"] = "[Fox] sees a tower"
    edit(output, source(tmp_path, stories[:4] + stories[5:]))
    assert "keyframes/s002" in render(output)
    assert verify(output, SIMULATED).problems == []


def test_a_story_that_came_back_keeps_its_files_when_earlier_ones_are_removed(
    tmp_path: Path,
) -> None:
    """It is in another shard now, and its new files have the names of the earlier ones."""
    output, stories = Output(str(tmp_path / "job")), rows(6)
    wanted = source(tmp_path, stories)
    open_job(output, wanted.input_url, wanted.config)
    render(output)
    edit(output, source(tmp_path, stories[:4] + stories[5:]), prune=True)
    render(output)
    edit(output, source(tmp_path, stories))
    assert "films/s004" in render(output)
    before = files(output)
    prune(output, SIMULATED)
    assert files(output) == before
    assert verify(output, SIMULATED).problems == []


def test_an_input_without_a_story_of_the_job_does_not_edit_it(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    wanted = source(tmp_path, rows(2))
    job = open_job(output, wanted.input_url, wanted.config)
    others = [{**row, "story_id": f"other{i}"} for i, row in enumerate(rows(2))]
    with pytest.raises(InputError, match="has none of the input's stories"):
        find_revision(job, source(tmp_path, others))
