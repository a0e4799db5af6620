"""What a job has come to is told right, whatever its size, and without keeping it all."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.simulated import FPS, film_of, finish_shard
from storyreel.flows.job.job import read_job
from storyreel.flows.job.layout import REJECTED
from storyreel.flows.job.status import find_status
from storyreel.flows.views.report import show_status, show_summary
from storyreel.flows.views.summary import FAILURES_KEPT, FILMS_KEPT, Summary, summarize
from storyreel.stages.output.manifests import Shard, manifest_path, write_manifest
from storyreel.stages.output.records import Failure
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline


def failure(story_id: str) -> Failure:
    """A story that was given up."""
    return Failure(
        story_id=story_id,
        stage="motion",
        unit_id=story_id,
        error_class="exception",
        message="why",
        attempts=3,
        worker="w",
        source_file="stories.jsonl",
        source_row=1,
    )


def seal(output: Output, index: int, films: int, failures: int) -> None:
    """Finish a shard of a thousand."""
    shard = Shard(index=index, count=1000)
    of_ten_seconds = [film_of(f"s{index}-{n:04d}", 10 * FPS) for n in range(films)]
    lost = [failure(f"f{index}-{n:04d}") for n in range(failures)]
    finish_shard(output, shard, of_ten_seconds, lost)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A job that is laid out."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 6)
    return output


def test_every_film_is_counted_once_and_the_newest_are_kept(output: Output) -> None:
    summary = Summary(output)
    for index in range(3):
        seal(output, index, films=60, failures=2)
        summary.read_on()
        summary.read_on()  # a shard that was read is not read again
    assert (summary.num_films, summary.num_failures) == (180, 6)
    assert summary.duration_s == pytest.approx(1800)
    kept = [film.story_id for film in summary.newest_films]
    assert len(kept) == FILMS_KEPT
    assert kept[-60:] == [f"s2-{n:04d}" for n in range(60)]


def test_a_large_job_keeps_as_much_as_a_small_one(output: Output) -> None:
    for index in range(4):
        seal(output, index, films=FILMS_KEPT, failures=FAILURES_KEPT)
    summary = summarize(read_job(output))
    assert (summary.num_films, summary.num_failures) == (4 * FILMS_KEPT, 4 * FAILURES_KEPT)
    assert len(summary.newest_films) == FILMS_KEPT
    assert len(summary.first_failures) == FAILURES_KEPT


def test_who_reads_a_shortened_list_is_told_so(output: Output) -> None:
    job = read_job(output)
    console = Console(record=True, width=200, file=io.StringIO())
    seal(output, 0, films=FILMS_KEPT, failures=1)
    show_summary(job, summarize(job), console)
    assert "are listed" not in console.export_text()
    seal(output, 1, films=1, failures=FAILURES_KEPT)
    show_summary(job, summarize(job), console)
    told = console.export_text()
    assert f"{FILMS_KEPT} of {FILMS_KEPT + 1} films are listed" in told
    assert f"{FAILURES_KEPT} of {FAILURES_KEPT + 1} failures are listed" in told


HOSTILE = "[/INST] [laughs] \\[red] \x1b[2J\nnext"
SHOWN = "[/INST] [laughs] \\[red] ?[2J next"


def test_text_of_a_story_is_shown_as_it_is_and_steers_no_terminal(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "films [night]"))
    lay_out(output, tmp_path, 2)
    (shard,) = render_inline(output).shards
    lost = replace(failure("s000"), message=HOSTILE)
    write_manifest(output, manifest_path("failures", shard), Failure, [lost], fingerprint="")
    write_manifest(
        output, REJECTED, Failure, [replace(failure(""), source_file="[/x].jsonl")], fingerprint=""
    )
    console = Console(record=True, width=300, file=io.StringIO(), force_terminal=True)
    show_summary(read_job(output), summarize(read_job(output)), console)
    show_status(find_status(output.url), console)
    told = console.export_text()
    assert told.count(SHOWN) == 2
    assert "[/x].jsonl, row 1" in told
    assert "films [night]/films, " in told
    assert "films [night]/manifests" in told
