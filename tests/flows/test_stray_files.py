"""Files that others put into an output, such as a cloud drive, end no job and change no count."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from storyreel.flows.audit.retry import Selection, open_for_retry
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.control import read_control, update_control
from storyreel.flows.job.job import open_job, read_config, read_job
from storyreel.flows.job.status import find_status
from storyreel.flows.views.summary import summarize
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Film
from storyreel.stages.output.storage import Output
from tests.flows.inline import lay_out, render_inline

NUM_STORIES = 5


def scatter(job: Path) -> Iterator[Path]:
    """Put into every folder what cloud drives, desktops and editors leave there; yield it."""
    for folder in [job, *(path for path in job.rglob("*") if path.is_dir())]:
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in files:
            copy = f"{path.stem} (conflicted copy 2026-11-26){path.suffix}"
            yield from (folder / copy, folder / f"{path.name}.tmp", folder / f"~${path.name}")
            with suppress(FileNotFoundError):  # a running job removes some
                (folder / copy).write_bytes(path.read_bytes()[:-1])
            (folder / f"{path.name}.tmp").write_bytes(b"half")
            (folder / f"~${path.name}").touch()
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
            (folder / name).write_bytes(b"\x00")
            yield folder / name
        (folder / "New folder").mkdir(exist_ok=True)
        yield folder / "New folder"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A job, half of it rendered, one story given up, with a control record."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, NUM_STORIES)
    update_control(output, priority=7)
    render_inline(output, lambda work: work.unit.name == "s003.0001")
    return output


def test_stray_files_in_every_folder_change_nothing(output: Output, tmp_path: Path) -> None:
    before = find_status(output.url)
    films = list(read_manifests(output, "films", Film))
    assert len(list(scatter(tmp_path / "job"))) > 50

    assert read_control(output).priority == 7
    assert update_control(output, priority=8).priority == read_control(output).priority == 8
    control = {**before.control, "priority": 8}
    after = find_status(output.url)
    assert replace(after, updated=before.updated) == replace(before, control=control)
    assert list(read_manifests(output, "films", Film)) == films
    assert summarize(read_job(output)).num_films == len(films)
    stories, config = str(tmp_path / "stories.jsonl"), read_config(output)
    assert open_job(output, stories, config).unfinished() == []
    assert {problem.kind for problem in verify(output).problems} == {"orphan"}
    assert open_for_retry(output, Selection()) == ("s003",)
    render_inline(output)
    assert len(list(read_manifests(output, "films", Film))) == NUM_STORIES
