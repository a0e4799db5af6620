"""The whole product on tiny real models: command, Prefect, Ray, stages, manifests, films."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.output.copies import plain_name
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Clip, Failure, Film, Keyframe, Panel, Shot
from storyreel.stages.output.storage import Output, checksum
from storyreel.stages.video import check_film
from tests.flows.conftest import Command, kill, wait_until
from tests.records import commit_records


def contents(output: Path) -> dict[str, str]:
    """The checksum of every file of an output."""
    files = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): checksum(path) for path in files}


def pictures(output: Path) -> dict[str, str]:
    """The checksums of what people look at."""
    whole = contents(output)
    kinds = ("keyframes", "clips", "films")
    return {plain_name(path): whole[path] for path in whole if path.startswith(kinds)}


STILL_S = FilmsConfig().still_s


def test_every_story_becomes_one_film_that_decodes_to_what_its_clips_say(rendered: Path) -> None:
    output = Output(str(rendered))
    clips = list(read_manifests(output, "clips", Clip))
    films = list(read_manifests(output, "films", Film))
    assert sorted(film.story_id for film in films) == ["bear", "fox", "zoe"]
    for film in films:
        of_story = [clip.num_frames - 1 for clip in clips if clip.story_id == film.story_id]
        stands = round(film.fps * STILL_S)  # its last picture
        assert check_film(rendered / film.path) == film.num_frames == sum(of_story) + stands


def test_every_panel_has_its_keyframe_and_every_pair_its_clip(rendered: Path) -> None:
    output = Output(str(rendered))
    panels = [(p.story_id, p.keyframe_index) for p in read_manifests(output, "panels", Panel)]
    frames = [(k.story_id, k.keyframe_index) for k in read_manifests(output, "keyframes", Keyframe)]
    shots = [(s.story_id, s.shot_index, s.kind) for s in read_manifests(output, "shots", Shot)]
    clips = [(c.story_id, c.shot_index, c.kind) for c in read_manifests(output, "clips", Clip)]
    assert panels == frames
    assert shots == clips


def test_a_finished_job_renders_nothing_and_changes_no_file(
    command: Command, rendered: Path, stories: Path
) -> None:
    before = contents(rendered)
    again = command.run(*command.render(stories, rendered))
    assert again.returncode == 0, again.stderr
    assert contents(rendered) == before
    assert "3 films" in again.stdout


def test_a_story_that_cannot_be_rendered_is_reported_and_harms_no_other(
    command: Command, rendered: Path, stories: Path, tmp_path: Path
) -> None:
    faceless = {"name": "Nobody", "description": "a ghost", "reference_image": "/no/such.png"}
    bad = [
        {"story_id": "ghost", "panels": ["[Nobody] waves", "a park"], "characters": [faceless]},
        {"story_id": "empty", "panels": []},
    ]
    lines = [*stories.read_text(encoding="utf-8").splitlines(), *map(json.dumps, bad)]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("\n".join(lines), encoding="utf-8")

    done = command.run(*command.render(mixed, tmp_path / "mixed"))
    assert done.returncode == 1, done.stderr
    failures = {
        f.story_id: f for f in read_manifests(Output(str(tmp_path / "mixed")), "failures", Failure)
    }
    assert {(f.story_id, f.stage, f.source_row) for f in failures.values()} == {
        ("ghost", "input", 4),
        ("empty", "input", 5),
    }
    assert "/no/such.png" in failures["ghost"].message
    # A film names its job, which is another one here; its pictures are the same.
    pixels = {path: sha for path, sha in pictures(rendered).items() if path.endswith("mkv")}
    assert pixels.items() <= pictures(tmp_path / "mixed").items()
    assert "ghost" in done.stdout


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_a_job_of_many_shards_with_its_name(
    command: Command, stories: Path, tmp_path: Path
) -> None:
    options = ["motion.model.path=/no/model", "execution.open_shards=1", "execution.shard_size=1"]
    settings = [word for option in options for word in ("--set", option)]
    done = command.run(*command.render(stories, tmp_path / "job", *settings))
    assert done.returncode == 2, done.stderr
    assert "could not load their stages" in done.stderr
    assert "/no/model" in done.stderr


def test_a_job_survives_kill_of_the_command_and_of_a_worker_byte_for_byte(
    command: Command, rendered: Path, stories: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    command = replace(command, ray_address="")  # its actors are found among its own processes
    with command.started(*command.render(stories, output)) as first:
        committed = wait_until(lambda: commit_records(output, "motion"), first)
        processes = _processes_of(first.pid)
        kill(first.pid)

    # Another number of actors, and another share of CPUs, must not show in any pixel.
    sizes = ["--set", "pools.render.num_actors=2", "--set", "pools.render.num_cpus=1"]
    with command.started(*command.render(stories, output, *sizes)) as second:
        kill(wait_until(lambda: _working_actor(second.pid), second))
        _, errors = second.communicate(timeout=240)
    assert second.returncode == 0, errors
    assert pictures(output) == pictures(rendered)
    assert committed.items() <= commit_records(output).items()
    _, left = psutil.wait_procs(processes, timeout=60)
    assert not left
    states = command.prefect_states("killed")
    assert "Crashed" in states
    assert not {"Running", "Pending"} & set(states)


def _processes_of(pid: int) -> list[psutil.Process]:
    """The processes of a command, but for Ray's own agents.

    They notice after a minute that their cluster is gone.
    """
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may end while we look at it
            name = process.name()
            if "Agent" not in name and not name.startswith("ray:"):
                found.append(process)
    return found


def _working_actor(pid: int) -> int | None:
    """The process of an actor that is in the middle of a unit; Ray puts that into its title."""
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may end while we look at it
            if "ray::Worker.run" in " ".join(process.cmdline()):
                return process.pid
    return None
