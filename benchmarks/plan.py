"""How often the intervals of a plan contained the true value, on a rendered job.

    python -m benchmarks.plan output/examples --sample 3

Takes samples of the job's stories again and again, plans the whole job from what the units of each
sample took, and holds every stage's interval against what all of its units took. An interval that
means what it says holds in nine of ten cases. The samples are of one rendering: what differs from
night to night (other load, other hardware) is not in them.
"""

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import Job, read_config, read_job
from storyreel.flows.job.stages import STAGES
from storyreel.flows.plans.plan import JobPlan, make_plan
from storyreel.flows.plans.rates import StageMeter, StageRate
from storyreel.flows.run.shards import stages_of
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.manifests import read_manifests
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one stage: how often its interval held, and how far the plan was off."""

    held: float
    median_error: float
    median_width: float
    """Of the interval, as a share of what the stage took."""


def main() -> None:
    """Draw the samples and print what came of them, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("output", help="folder of a finished job")
    parser.add_argument("--sample", type=int, default=3, help="stories of a sample (3)")
    parser.add_argument("--draws", type=int, default=500, help="samples (500)")
    asked = parser.parse_args()
    found = hold(Output(asked.output), asked.sample, asked.draws)
    print(json.dumps({stage: _plain(outcome) for stage, outcome in found.items()}, indent=1))  # noqa: T201


def hold(output: Output, sample_size: int, draws: int) -> dict[str, Outcome]:
    """Plan the job at `output` from samples of its stories, and hold it against the whole."""
    config = read_config(output)
    units = read_units(read_job(output), config)
    boards = {board.story_id: board for unit in units["prompts"] for board in unit.records}
    stories = [s for s in read_manifests(output, "stories", Story) if s.story_id in boards]
    chance = random.Random(0)  # noqa: S311, no secret
    plans = []
    for _ in range(draws):
        chosen = {story.story_id for story in chance.sample(stories, sample_size)}
        rates = rates_of(units, chosen)
        plans.append(
            make_plan(stories, len(stories), lambda s: (boards[s.story_id],), config, rates)
        )
    return {stage: _outcome(plans, stage, _actor_hours(units[stage])) for stage in STAGES.names}


def read_units(job: Job, config: RenderConfig) -> dict[str, list[Commit[Any]]]:
    """The units of a job that were done, by stage."""
    units: dict[str, list[Commit[Any]]] = {name: [] for name in STAGES.names}
    for shard in job.shards:
        for stage in stages_of(job, shard, config):
            found = UnitRecords.find(job.output, stage.spec.name, shard)
            units[stage.spec.name] += [
                found.commit(work.unit.name, stage.spec.record)
                for work in stage.units()
                if work.unit.name in found.done
            ]
    return units


def rates_of(units: dict[str, list[Commit[Any]]], story_ids: set[str]) -> dict[str, StageRate]:
    """The rates that the units of some stories would have given."""
    rates = {}
    for spec in STAGES:
        meter = StageMeter(spec)
        for unit in units[spec.name]:
            if unit.records[0].story_id in story_ids:
                meter.took(unit.seconds)
                meter.made(unit.records)
        if (rate := meter.rate()) is not None:
            rates[spec.name] = rate
    return rates


def _actor_hours(units: Iterable[Commit[Any]]) -> float:
    return sum(unit.seconds for unit in units) / 3600


def _outcome(plans: list[JobPlan], stage: str, actual: float) -> Outcome:
    estimates = [one.actor_hours for plan in plans for one in plan.stages if one.stage == stage]
    return Outcome(
        held=fmean(estimate.low <= actual <= estimate.high for estimate in estimates),
        median_error=median(abs(estimate.value / actual - 1) for estimate in estimates),
        median_width=median((estimate.high - estimate.low) / actual for estimate in estimates),
    )


def _plain(outcome: Outcome) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(outcome).items()}


if __name__ == "__main__":
    main()
