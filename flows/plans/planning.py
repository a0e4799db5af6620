"""The `plan` command: what rendering an input would take, by the rates of an earlier job."""

import random
from collections.abc import Iterable

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import JOB, read_config
from storyreel.flows.plans.plan import MAX_STORIES, Plan, check_space, make_plan
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output
from storyreel.stages.prompts.stage import PromptsStage


def plan_input(
    input_url: str, config: RenderConfig, rates_url: str | None, output_url: str | None
) -> Plan:
    """Plan the job of an input; a chat model is not asked, it changes no count.

    Args:
        input_url: the stories.
        config: what they would be rendered with.
        rates_url: the output of an earlier job of this configuration.
        output_url: where the films would go, to see whether there is room.

    Raises:
        ValueError: there are no rates, they are of another configuration, the input holds no story,
            or the job cannot fit.
    """
    rates = _rates_for(config, rates_url)
    stories, count = choose_evenly(row for row in read_stories(input_url) if isinstance(row, Story))
    if not stories:
        raise ValueError(f"input {input_url}: holds no story")
    split = PromptsStage(
        config=config.prompts.model_copy(update={"chat": None}),
        model=config.keyframes.model,
        num_frames=config.motion.num_frames,
        fps=config.films.fps,
    )
    plan = make_plan(stories, count, split, config, rates)
    if output_url is not None:
        check_space(plan, Output(output_url))
    return plan


def choose_evenly(stories: Iterable[Story]) -> tuple[list[Story], int]:
    """At most `MAX_STORIES` of the stories, each as likely as any other, and how many there are."""
    chance = random.Random(0)  # noqa: S311, no secret: the same stories every time
    chosen: list[Story] = []
    count = 0
    for count, story in enumerate(stories, start=1):
        if len(chosen) < MAX_STORIES:
            chosen.append(story)
        elif (place := chance.randrange(count)) < MAX_STORIES:
            chosen[place] = story
    return chosen, count


def _rates_for(config: RenderConfig, rates_url: str | None) -> dict[str, StageRate]:
    if rates_url is None:
        raise ValueError(
            "the plan: no rates are known; name with --rates the output of an earlier job of this"
            " configuration, or let `storyreel render --sample 4` measure them"
        )
    earlier = Output(rates_url)
    if not earlier.exists(JOB):
        raise ValueError(f"--rates {rates_url}: holds no job")
    ours, theirs = config.rendering(), read_config(earlier).rendering()
    if other := [section for section in ours if ours[section] != theirs[section]]:
        raise ValueError(
            f"--rates {rates_url}: measured another configuration ({', '.join(other)} differ)"
        )
    return read_rates(earlier)
