"""The plan is held against what comes: a wrong one costs nights, or fills a disk."""

import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, variance

import pytest
from typer.testing import CliRunner

from benchmarks import simulated
from storyreel.flows.commands.cli import app
from storyreel.flows.job.config import RenderConfig, load_config
from storyreel.flows.job.job import open_job
from storyreel.flows.job.stages import STAGES
from storyreel.flows.job.window import Window
from storyreel.flows.plans.plan import CONFIDENCE, JobPlan, check_space, make_plan
from storyreel.flows.plans.rates import StageMeter, StageRate, read_rates, write_rates
from storyreel.flows.plans.sample import as_planned
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Story, Storyboard
from storyreel.stages.output.storage import Output


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RenderConfig:
    path = tmp_path_factory.mktemp("config") / "simulated.toml"
    path.write_text(simulated.CONFIG)
    return load_config(str(path))


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory, config: RenderConfig) -> list[Storyboard]:
    folder = tmp_path_factory.mktemp("stories")
    (folder / "stories.jsonl").write_text("\n".join(simulated.make_rows(400)))
    job = open_job(Output(str(folder / "job")), str(folder / "stories.jsonl"), config)
    stories = list(read_manifests(job.output, "stories", Story))
    split = simulated.SimulatedPrompts(output_url="", speed=1e9)
    return [split(story)[0] for story in sorted(stories, key=lambda story: story.story_id)]


def lengths(boards: list[Storyboard]) -> dict[str, list[tuple[float, int]]]:
    """The seconds and the items of every unit of these stories, as the simulation draws them."""
    units: dict[str, list[tuple[float, int]]] = {stage: [] for stage in STAGES.names}

    def add(stage: str, items: int, *name: str | int) -> None:
        units[stage].append((simulated.seconds_of(stage, items, *name), items))

    for board in boards:
        add("prompts", 1, board.story_id)
        add("keyframes", len(board.panels), board.story_id)
        for shot in board.shots:
            add("motion", shot.num_frames, board.story_id, shot.shot_index)
        add("films", 1 + sum(s.num_frames - 1 for s in board.shots), board.story_id)
    return units


def rates_of(boards: list[Storyboard]) -> dict[str, StageRate]:
    """What a job of these stories measures."""
    return {
        stage: StageRate(
            num_units=len(units),
            mean_s=fmean(seconds for seconds, _ in units),
            variance_s2=variance(seconds for seconds, _ in units),
            quantiles_s=(min(units)[0], max(units)[0]),
            items_per_unit=fmean(items for _, items in units),
            bytes_per_unit=100.0,
            hardware="CPU",
        )
        for stage, units in lengths(boards).items()
    }


def plan_of(boards: list[Storyboard], config: RenderConfig, rates: dict[str, StageRate]) -> JobPlan:
    split = {board.story_id: board for board in boards}
    stories = [_story(board.story_id) for board in boards]
    return make_plan(stories, len(stories), lambda s: (split[s.story_id],), config, rates)


def _story(story_id: str) -> Story:
    return Story(
        story_id=story_id,
        source_file="",
        source_row=1,
        text="",
        panels=(),
        characters=(),
        style="",
        negative_prompt="",
        seed=0,
        duration_s=None,
    )


def test_the_hours_are_within_15_percent_and_the_intervals_hold_nine_of_ten_times(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    """400 stories planned by what 16 of them took, 60 times."""
    actual = {stage: sum(s for s, _ in units) / 3600 for stage, units in lengths(boards).items()}
    chance = random.Random(1)
    errors: list[float] = []
    held: list[bool] = []
    for _ in range(60):
        plan = plan_of(boards, config, rates_of(chance.sample(boards, 16)))
        total = sum(stage.actor_hours.value for stage in plan.stages)
        errors.append(abs(total / sum(actual.values()) - 1))
        held += [s.actor_hours.low <= actual[s.stage] <= s.actor_hours.high for s in plan.stages]
    assert sorted(errors)[int(0.95 * len(errors))] < 0.15
    assert fmean(held) > 0.85


def test_counts_of_a_part_of_the_stories_stand_for_all(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    shots = sum(len(board.shots) for board in boards)
    split = {board.story_id: board for board in boards}
    some = [_story(board.story_id) for board in boards[::4]]
    plan = make_plan(some, len(boards), lambda s: (split[s.story_id],), config, rates_of(boards))
    assert plan.shots.low <= shots <= plan.shots.high
    assert plan.shots.value == pytest.approx(shots, rel=0.1)
    exact = plan_of(boards, config, rates_of(boards)).shots
    assert exact.low == exact.value == exact.high == shots


def test_stories_that_are_longer_than_the_measured_ones_take_longer(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    """The rate is that of a panel, not of a story; so short stories tell what long ones take."""
    short = [board for board in boards if len(board.panels) <= 4]
    long = [board for board in boards if len(board.panels) >= 8]
    actual = sum(seconds for seconds, _ in lengths(long)["keyframes"]) / 3600
    plan = plan_of(long, config, rates_of(short))
    (keyframes,) = (stage for stage in plan.stages if stage.stage == "keyframes")
    assert keyframes.actor_hours.value == pytest.approx(actual, rel=0.15)


def test_more_actors_and_longer_windows_need_fewer_nights(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    def nights(num_actors: int, window: str) -> float:
        pool = config.pools.render.model_copy(update={"num_actors": num_actors})
        pools = config.pools.model_copy(update={"render": pool})
        execution = config.execution.model_copy(update={"window": window})
        changed = config.model_copy(update={"pools": pools, "execution": execution})
        found = plan_of(boards, changed, rates_of(boards)).nights
        assert found is not None and found.low <= found.value <= found.high
        return found.value

    assert nights(1, "22:00-22:10 UTC") > nights(2, "22:00-22:10 UTC")
    assert nights(1, "22:00-22:30 UTC") < nights(1, "22:00-22:10 UTC")
    assert nights(2, "22:00-06:00 UTC") == 1


def test_the_nights_are_those_of_the_window_that_holds(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    """It may be another one than the configuration's, asked for when the job was submitted."""
    execution = config.execution.model_copy(update={"window": "22:00-06:00 UTC"})
    configured = config.model_copy(update={"execution": execution})
    rates = rates_of(boards)
    short = plan_of(boards, as_planned(configured, Window.parse("22:00-22:10 UTC")), rates).nights
    assert short is not None and short.value > 1
    assert plan_of(boards, as_planned(configured, None), rates).nights is None


def test_a_window_shorter_than_a_unit_is_refused(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    rates = rates_of(boards)
    rates["motion"] = replace(rates["motion"], quantiles_s=(1.0, 90.0))
    execution = config.execution.model_copy(update={"window": "22:00-22:01 UTC"})
    with pytest.raises(ValueError, match=r"is 1 min long, and a unit takes up to 1\.5 min"):
        plan_of(boards, config.model_copy(update={"execution": execution}), rates)


def test_a_disk_that_is_too_small_is_refused(
    boards: list[Storyboard], config: RenderConfig, tmp_path: Path
) -> None:
    plan = plan_of(boards, config, rates_of(boards))
    check_space(plan, Output(str(tmp_path / "not" / "there" / "yet")))
    rates = {s: replace(r, bytes_per_unit=1e15) for s, r in rates_of(boards).items()}
    with pytest.raises(ValueError, match="GB are free there"):
        check_space(plan_of(boards, config, rates), Output(str(tmp_path)))


def test_what_is_let_go_once_a_film_is_there_needs_no_room(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    everything = plan_of(boards, config, rates_of(boards))
    retention = config.retention.model_copy(update={"keep": "films"})
    plan = plan_of(boards, config.model_copy(update={"retention": retention}), rates_of(boards))
    stays = [s.gigabytes.value for s in plan.stages if s.stage in {"prompts", "films"}]
    assert plan.gigabytes.value == pytest.approx(sum(stays))
    assert plan.gigabytes.value < everything.gigabytes.value


def test_the_interval_of_a_rate_from_two_units_is_that_of_one_degree_of_freedom(
    boards: list[Storyboard], config: RenderConfig
) -> None:
    """6.314 standard errors for 90 %; what is small for many units is 11 % short here."""
    rates = rates_of(boards)
    few = {
        stage: replace(rate, num_units=2, mean_s=100.0, variance_s2=1.0)
        for stage, rate in rates.items()
    }
    assert CONFIDENCE == 0.9
    for stage in plan_of(boards, config, few).stages:
        spread = 1.0 / 100**2
        margin = 6.314 * (spread / 2 + spread / stage.units.value) ** 0.5 * stage.actor_hours.value
        high = stage.actor_hours.value + margin
        assert stage.actor_hours.high == pytest.approx(high, rel=1e-4)


def test_a_meter_measures_what_statistics_says_and_goes_on_where_it_stopped() -> None:
    chance = random.Random(2)
    seconds = [chance.lognormvariate(0, 0.5) for _ in range(500)]
    meter = StageMeter(STAGES["motion"])
    for value in seconds[:200]:
        meter.took(value)
    first = meter.rate()
    again = StageMeter(STAGES["motion"], first)
    for value in seconds[200:]:
        again.took(value)
    rate = again.rate()
    assert rate is not None
    assert rate.num_units == 500
    assert rate.mean_s == pytest.approx(fmean(seconds))
    assert rate.variance_s2 == pytest.approx(variance(seconds))
    assert meter.quantile(0.9) == sorted(seconds[:200])[179]
    assert StageMeter(STAGES["motion"]).quantile(0.9) is None


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_plans_from_an_earlier_job_and_refuses_another_configuration(
    boards: list[Storyboard], tmp_path: Path
) -> None:
    stories = tmp_path / "stories.jsonl"
    row = {"story_id": "fox", "text": "A fox walks in the park. It runs to the beach. It sleeps."}
    stories.write_text(json.dumps(row))
    output = Output(str(tmp_path / "job"))
    open_job(output, str(stories), load_config("pocket"))
    with pytest.raises(ValueError, match="fewer than 2 units of prompts, keyframes, motion, films"):
        plan(str(stories), "--rates", output.url)
    write_rates(output, rates_of(boards))
    assert read_rates(output) == rates_of(boards)

    told = json.loads(plan(str(stories), "--rates", output.url, "--json"))
    assert (told["stories"], told["shots"]["value"]) == (1, 2)
    assert told["frames"]["value"] == 1 + 2 * 15
    assert "one actor's time" in plan(str(stories), "--rates", output.url)
    with pytest.raises(ValueError, match=r"measured another configuration \(keyframes"):
        plan(str(stories), "--rates", output.url, "--set", "keyframes.num_inference_steps=3")
    with pytest.raises(ValueError, match="no rates are known; name with --rates"):
        plan(str(stories))
    with pytest.raises(ValueError, match="holds no job"):
        plan(str(stories), "--rates", str(tmp_path))
