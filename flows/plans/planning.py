"""Plans the job of an input that is not laid out yet, from the rates of an earlier job."""

import random
from collections.abc import Iterable

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.description import JOB
from storyreel.flows.job.job import read_config
from storyreel.flows.plans.plan import MAX_STORIES, JobPlan, check_space, make_plan
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.flows.plans.splitting import rule_splitter
from storyreel.stages.errors import InputError
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output


def plan_input(
    input_url: str, config: RenderConfig, rates_url: str | None, output_url: str | None
) -> JobPlan:
    """Plan the job of an input.

    Args:
        input_url: the stories.
        config: the configuration that they would be rendered with.
        rates_url: the output of an earlier job of this configuration.
        output_url: where the films would be written; its free space is checked.

    Raises:
        ValueError: there are no rates, they are of another configuration, the input contains no
            story, or the job fits neither the window nor the disk.
    """
    rates = _rates_for(config, rates_url)
    stories, count = choose_evenly(
        row for row in read_stories(input_url, config.input) if isinstance(row, Story)
    )
    if not stories:
        raise InputError(f"input {input_url}: holds no story")
    plan = make_plan(stories, count, rule_splitter(config), config, rates)
    if output_url is not None:
        check_space(plan, Output(output_url))
    return plan


def choose_evenly(stories: Iterable[Story]) -> tuple[list[Story], int]:
    """Draw at most `MAX_STORIES` of the stories at random; return them and the number of all.

    Reservoir sampling (Vitter 1985, algorithm R): one pass, bounded memory.
    """
    chance = random.Random(0)  # noqa: S311, reproducible, not secret
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
        raise InputError(
            "the plan: no rates are known; name with --rates the output of an earlier job of this"
            " configuration, or let `storyreel render --sample 4` measure them"
        )
    earlier = Output(rates_url)
    if not earlier.exists(JOB):
        raise InputError(f"--rates {rates_url}: holds no job")
    ours, theirs = config.rendering(), read_config(earlier).rendering()
    if other := [section for section in ours if ours[section] != theirs[section]]:
        raise InputError(
            f"--rates {rates_url}: measured another configuration ({', '.join(other)} differ)"
        )
    return read_rates(earlier)
