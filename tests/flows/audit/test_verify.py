"""The audit finds everything that can be wrong with an output, and nothing where nothing is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storyreel.flows.audit.verify import verify
from storyreel.flows.commands.cli import app
from storyreel.flows.job.retention import (
    read_removed,
    remove_finished_intermediates,
    remove_intermediates,
)
from storyreel.stages.output.manifests import manifest_path, read_manifest, write_manifest
from storyreel.stages.output.records import Film
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline
from tests.records import commit_records, replace_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished job of five stories, one of them in quarantine."""
    folder = tmp_path_factory.mktemp("finished")
    output = Output(str(folder / "job"))
    lay_out(output, folder, 5)
    render_inline(output, lambda work: work.unit.name == "s003.0001")
    return folder / "job"


@pytest.fixture
def job(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "job")
    return tmp_path / "job"


def kinds(job: Path) -> set[tuple[str, str]]:
    return {(problem.kind, problem.place) for problem in verify(Output(str(job))).problems}


def test_a_whole_output_has_no_problem(finished: Path) -> None:
    audit = verify(Output(str(finished)))
    assert audit.problems == []
    assert (audit.num_stories, audit.num_films, audit.num_failures) == (5, 4, 1)
    # Five stories with three keyframes; four with two clips and a film, one with one clip.
    assert audit.num_files == 15 + 9 + 12


def remove(path: str) -> Callable[[Path], object]:
    return lambda job: (job / path).unlink()


def write(path: str, content: bytes) -> Callable[[Path], object]:
    def change(job: Path) -> None:
        (job / path).parent.mkdir(parents=True, exist_ok=True)
        (job / path).write_bytes(content)

    return change


RECORD = "units/films/00000-of-00003/s000.done.json"
PACKED = "units/films/00000-of-00003/packed.parquet"


def shard(index: int, table: str) -> str:
    return f"manifests/{table}/{index:05d}-of-00003.parquet"


def double_a_film(job: Path) -> None:
    output = Output(str(job))
    films = read_manifest(output, shard(0, "films"), Film)
    write_manifest(output, shard(0, "films"), Film, [*films, films[0]], fingerprint="")


def lose_a_failure(job: Path) -> None:
    shutil.copy(job / shard(0, "failures"), job / shard(1, "failures"))


def link_out(job: Path) -> None:
    (job / "films/s000.mp4").rename(job.parent / "elsewhere.mp4")
    (job / "films/s000.mp4").symlink_to(job.parent / "elsewhere.mp4")


def mix_manifests(job: Path) -> None:
    output = Output(str(job))
    films = read_manifest(output, shard(0, "films"), Film)
    write_manifest(output, shard(0, "films"), Film, films, fingerprint="of another look")


def mix_commits(job: Path) -> None:
    made = json.loads(commit_records(job, "films")[RECORD])
    replace_record(job, RECORD, json.dumps(made | {"fingerprint": "of another look"}))


def edit_record(path: str, content: str | None) -> Callable[[Path], object]:
    """Change a packed record."""
    return lambda job: replace_record(job, path, content)


OTHER_COUNT = "manifests/films/00000-of-00007.parquet"

DAMAGES: list[tuple[Callable[[Path], object], str, str]] = [
    (remove("films/s000.mp4"), "file", "films/s000.mp4"),
    (write("films/s001.srt", b"other"), "file", "films/s001.srt"),
    (write("clips/s002/0001.mkv", b"clip clips/s002/0001.mk"), "file", "clips/s002/0001.mkv"),
    (remove("keyframes/s003/0002.png"), "file", "keyframes/s003/0002.png"),
    (link_out, "file", "films/s000.mp4"),
    (write("films/s009.mp4", b""), "orphan", "films/s009.mp4"),
    (write("films/s003.mp4", b"of a failed story"), "orphan", "films/s003.mp4"),
    (write("keyframes/s000/0007.png", b""), "orphan", "keyframes/s000/0007.png"),
    (write("clips/nobody/0000.mkv", b""), "orphan", "clips/nobody"),
    (write("references/00.png", b""), "orphan", "references/00.png"),
    (
        write("units/motion/00000-of-00003/s000.0009.done.json", b"{}"),
        "orphan",
        "units/motion/00000-of-00003/s000.0009.done.json",
    ),
    (edit_record(RECORD, "[]"), "record", PACKED),
    (edit_record(RECORD, None), "accord", shard(0, "films")),
    (
        edit_record("units/motion/00001-of-00003/s003.0001.failed.json", None),
        "accord",
        shard(1, "failures"),
    ),
    (write(PACKED, b"PAR1"), "record", PACKED),
    (mix_manifests, "manifest", shard(0, "films")),
    (mix_commits, "record", PACKED),
    (remove(shard(1, "keyframes")), "seal", shard(1, "keyframes")),
    (write(shard(1, "clips"), b"PAR1"), "manifest", shard(1, "clips")),
    (remove(shard(2, "failures")), "unfinished", "00002-of-00003"),
    (remove(shard(2, "stories")), "manifest", shard(2, "stories")),
    (write(OTHER_COUNT, b""), "orphan", OTHER_COUNT),
    (double_a_film, "story", "s000"),
    (lose_a_failure, "story", "s003"),
]


@pytest.mark.parametrize(("damage", "kind", "place"), DAMAGES)
def test_every_damage_is_found_and_named(
    damage: Callable[[Path], object], kind: str, place: str, job: Path
) -> None:
    damage(job)
    assert (kind, place) in kinds(job)


def test_a_job_that_is_not_over_is_no_whole_output(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 3)
    assert {problem.kind for problem in verify(output).problems} == {"unfinished"}


def test_the_command_tells_problems_as_a_table_and_as_json(job: Path) -> None:
    (job / "films/s000.mp4").write_bytes(b"")
    shown = CliRunner().invoke(app, ["verify", str(job)])
    assert shown.exit_code == 1
    assert "films/s000.mp4" in shown.output
    told = CliRunner().invoke(app, ["verify", str(job), "--json"])
    assert told.exit_code == 1
    (problem,) = json.loads(told.stdout)["problems"]
    assert (problem["kind"], problem["place"]) == ("file", "films/s000.mp4")


def test_a_whole_output_ends_with_0_and_its_counts(finished: Path) -> None:
    shown = CliRunner().invoke(app, ["verify", str(finished)])
    assert shown.exit_code == 0, shown.output
    assert "5 stories (4 films, 1 failures), 36 files read, 0 problems" in shown.output


def test_where_there_is_no_job_a_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no job"):
        verify(Output(str(tmp_path)))


def test_files_that_were_let_go_are_no_loss_and_those_of_failed_stories_stay(job: Path) -> None:
    output = Output(str(job))
    audit = verify(output)
    job_there = render_inline(output)
    remove_finished_intermediates(job_there)
    assert output.names("keyframes") == output.names("clips") == ["s003"]
    after = verify(output)
    assert after.problems == []
    assert after.num_films == audit.num_films
    (job / "clips/s003/0000.mkv").unlink()
    assert kinds(job) == {("file", "clips/s003/0000.mkv")}


def test_letting_go_goes_on_where_it_broke_off(job: Path) -> None:
    output = Output(str(job))
    job_there = render_inline(output)
    remove_intermediates(job_there, job_there.shards[0])
    (job / "keyframes/s000").mkdir()
    (job / "keyframes/s000/0000.png").write_bytes(b"was not removed yet")
    remove_finished_intermediates(job_there)
    assert "s000" not in output.names("keyframes")
    assert read_removed(output, job_there.shards[0]) == {"s000", "s001"}


def test_what_a_story_left_behind_that_was_given_up_is_removed(tmp_path: Path) -> None:
    """Its pictures were published, and its unit failed before it was committed."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)

    def fails(work: object) -> bool:
        output.publish("keyframes/s001/0000.png", b"half a story")
        return str(getattr(work, "unit", "")) == "keyframes/s001"

    render_inline(output, fails)
    assert output.names("keyframes/s001") == []
    assert verify(output).problems == []


def test_manifests_of_other_tables_are_not_our_business(job: Path) -> None:
    output = Output(str(job))
    films = read_manifest(output, shard(0, "films"), Film)
    write_manifest(
        output, "manifests/scores_films/00000-of-00003.parquet", Film, films, fingerprint=""
    )
    assert manifest_path("films", render_inline(output).shards[0]) == shard(0, "films")
    assert kinds(job) == set()


def test_the_next_start_leaves_alone_what_was_let_go_already(job: Path) -> None:
    output = Output(str(job))
    job_there = render_inline(output)
    remove_finished_intermediates(job_there)
    records = sorted((job / "removed").iterdir())
    before = [path.stat().st_mtime_ns for path in records]
    remove_finished_intermediates(job_there)
    assert [path.stat().st_mtime_ns for path in records] == before
