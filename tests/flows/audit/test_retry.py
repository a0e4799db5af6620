"""Quarantined stories are tried again, those alone, and a broken-off retry loses nothing."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed
from typer.testing import CliRunner

from storyreel.flows.audit.retry import Selection, open_for_retry
from storyreel.flows.audit.verify import verify
from storyreel.flows.commands.cli import app
from storyreel.flows.job import generations
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.control import Cancel, read_control, update_control
from storyreel.flows.job.generations import complete_opening, read_generations
from storyreel.flows.job.job import Job, read_config, read_job
from storyreel.flows.job.lock import held
from storyreel.flows.views.summary import summarize
from storyreel.stages.errors import LockedError
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Failure, Film
from storyreel.stages.output.storage import Output
from tests.flows.inline import SIMULATED, InlineRunner, lay_out, never, render_inline

BAD = {"s000.0001": "motion", "s003": "keyframes", "s004": "films"}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A finished job of six stories in three shards, three of them in quarantine."""
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 6)
    render_inline(output, lambda work: BAD.get(work.unit.name) == work.unit.stage)
    assert in_quarantine(output) == {"s000", "s003", "s004"}
    return output


def in_quarantine(output: Output) -> set[str]:
    """The stories that are among the failures."""
    return {failure.story_id for failure in read_manifests(output, "failures", Failure)}


def go_on(output: Output, **options: Any) -> list[str]:
    """Render what is missing; names the units that were done for it."""
    job = read_job(output, SIMULATED)
    runner = InlineRunner(job, options.get("fails", never))
    for shard in job.unfinished():
        runner.render(shard)
    return sorted(runner.tried)


def test_all_are_tried_again_and_only_what_is_missing_is_done(output: Output) -> None:
    assert open_for_retry(output, Selection()) == ("s000", "s003", "s004")
    done = go_on(output)
    assert done == [
        "films/s000",
        "films/s003",
        "films/s004",
        "keyframes/s003",
        "motion/s000.0001",
        "motion/s003.0000",
        "motion/s003.0001",
    ]
    films = read_manifests(output, "films", Film)
    assert sorted(film.story_id for film in films) == [f"s{i:03d}" for i in range(6)]
    assert not in_quarantine(output)
    assert verify(output).problems == []


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(stages=frozenset({"motion"})), ("s000",)),
        (Selection(error_classes=frozenset({"exception"})), ("s000", "s003", "s004")),
        (Selection(error_classes=frozenset({"timeout"})), ()),
        (Selection(story_ids=frozenset({"s003", "s004"})), ("s003", "s004")),
        (Selection(stages=frozenset({"films"}), story_ids=frozenset({"s003"})), ()),
    ],
)
def test_only_what_fits_is_tried_again(
    selection: Selection, chosen: tuple[str, ...], output: Output
) -> None:
    assert open_for_retry(output, selection) == chosen
    tried = {name.split("/")[1].split(".")[0] for name in go_on(output)}
    assert tried == set(chosen)
    assert in_quarantine(output) == {"s000", "s003", "s004"} - set(chosen)
    assert verify(output).problems == []


def test_until_the_new_generation_is_sealed_readers_see_the_old_one(output: Output) -> None:
    before = in_quarantine(output)
    open_for_retry(output, Selection())
    assert in_quarantine(output) == before
    assert summarize(read_job(output)).num_films == 3
    assert {problem.kind for problem in verify(output).problems} == {"unfinished"}


def test_a_story_that_fails_again_is_in_quarantine_again_and_can_be_retried(
    output: Output,
) -> None:
    for generation in (1, 2):
        open_for_retry(output, Selection(story_ids=frozenset({"s003"})))
        go_on(output, fails=lambda work: work.unit.story_id == "s003")
        assert read_generations(output) == {"00001-of-00003": generation}
        assert "s003" in in_quarantine(output)
        assert verify(output).problems == []


@pytest.mark.parametrize("forgotten", range(4))
def test_a_retry_that_is_killed_in_between_is_completed_by_the_next_run(
    forgotten: int, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the change is published, and after each of the three records is forgotten."""

    class KilledError(Exception):
        pass

    forgive = generations.forgive
    done: list[str] = []

    def die_in_between(*arguments: Any) -> None:
        if len(done) == forgotten:
            raise KilledError
        forgive(*arguments)
        done.append(str(arguments))

    monkeypatch.setattr(generations, "forgive", die_in_between)
    if forgotten < 3:
        with pytest.raises(KilledError):
            open_for_retry(output, Selection())
    else:
        open_for_retry(output, Selection())
    monkeypatch.undo()
    assert summarize(read_job(output)).num_films == 3
    with held(output, "the next run") as mine:
        complete_opening(mine)
    go_on(output)
    assert summarize(read_job(output)).num_films == 6
    assert verify(output).problems == []


def test_nothing_is_retried_under_a_running_job(output: Output) -> None:
    with held(output, "flow run night"), pytest.raises(LockedError, match="flow run night"):
        open_for_retry(output, Selection())
    assert read_generations(output) == {}


def test_a_story_that_is_not_in_quarantine_is_named(output: Output) -> None:
    with pytest.raises(ValueError, match="--story s001: is not in quarantine"):
        open_for_retry(output, Selection(story_ids=frozenset({"s001"})))


def test_a_stage_that_is_none_is_named(output: Output) -> None:
    with pytest.raises(ValueError, match="--stage mottion: must be one of prompts, keyframes"):
        open_for_retry(output, Selection(stages=frozenset({"mottion"})))


def test_a_class_that_is_none_is_named(output: Output) -> None:
    with pytest.raises(ValueError, match="--class oom: must be one of bad_input, out_of_memory"):
        open_for_retry(output, Selection(error_classes=frozenset({"oom"})))


def test_a_story_that_is_about_to_be_tried_again_may_be_named_again(output: Output) -> None:
    """The same command goes on after it was interrupted."""
    only = Selection(story_ids=frozenset({"s003"}))
    assert open_for_retry(output, only) == ("s003",)
    assert open_for_retry(output, only) == ()
    assert "keyframes/s003" in go_on(output)


@pytest.mark.parametrize("command", ["retry", "repair"])
def test_the_same_command_goes_on_with_what_is_left_also_after_a_cancellation(
    command: str, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is rendered inline here, by the run that the command starts."""
    open_for_retry(output, Selection())
    update_control(output, cancel=Cancel.DRAIN)

    def run_inline(job: Job, config: RenderConfig) -> State[Any]:
        assert read_control(job.output).cancel is Cancel.NO
        InlineRunner(read_job(job.output, SIMULATED)).render(job.unfinished()[0])
        return Completed(name="CarriedOver", message="2 shards carried over")

    monkeypatch.setattr("storyreel.flows.run.render.run_render", run_inline)
    result = CliRunner().invoke(app, [command, output.url], catch_exceptions=False)
    assert len(read_job(output).unfinished()) == 2
    assert "2 shards carried over" in result.stdout


def test_the_configuration_of_a_job_is_known_to_a_later_command(output: Output) -> None:
    config = read_config(output, ["pools.render.num_actors=2"])
    assert config.execution.shard_size == 2
    assert config.pools.render.num_actors == 2
    with pytest.raises(ValueError, match="unknown key"):
        read_config(output, ["pools.rendr.num_actors=2"])
