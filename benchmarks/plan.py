"""How often the intervals of a plan held, on a job that was really rendered.

    python -m benchmarks.plan output/examples --sample 3

Takes samples of the job's stories again and again, plans the whole job from what the units of each
sample took, and holds every stage's interval against what all of its units took. An interval that
means what it says holds in nine of ten cases. The samples are of one rendering: what differs from
night to night (other load, other hardware) is not in them.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from flows.job import read_config, read_job
from flows.plan import Plan, make_plan
from flows.rates import StageMeter, StageRate
from flows.shards import STAGES
from stages.manifests import read_manifests
from stages.records import Clip, Film, Keyframe, Panel, Shot, Story, Storyboard, from_row
from stages.storage import Output

RECORDS = {"prompts": Storyboard, "keyframes": Keyframe, "motion": Clip, "films": Film}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit that was done: what it took on its actor, and what it made."""

    story_id: str
    seconds: float
    records: tuple[Any, ...]


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
    config, units = read_config(output), read_units(Path(read_job(output).output.url))
    boards = {board.story_id: board for board in read_boards(output)}
    stories = [s for s in read_manifests(output, "stories", Story) if s.story_id in boards]
    chance = random.Random(0)  # noqa: S311, no secret
    plans = []
    for _ in range(draws):
        chosen = {story.story_id for story in chance.sample(stories, sample_size)}
        rates = rates_of(units, chosen)
        plans.append(
            make_plan(stories, len(stories), lambda s: (boards[s.story_id],), config, rates)
        )
    return {stage: _outcome(plans, stage, _actor_hours(units[stage])) for stage in STAGES}


def read_units(folder: Path) -> dict[str, list[Unit]]:
    """All units of a job on a local disk, by stage."""
    units: defaultdict[str, list[Unit]] = defaultdict(list)
    for stage, record in RECORDS.items():
        for path in sorted(folder.glob(f"units/{stage}/*/*.done.json")):
            commit = json.loads(path.read_text())
            records: tuple[Any, ...] = tuple(from_row(record, row) for row in commit["records"])
            units[stage].append(
                Unit(story_id=records[0].story_id, seconds=commit["seconds"], records=records)
            )
    return units


def read_boards(output: Output) -> Iterator[Storyboard]:
    """What the job's stories were split into."""
    panels: defaultdict[str, list[Panel]] = defaultdict(list)
    shots: defaultdict[str, list[Shot]] = defaultdict(list)
    for panel in read_manifests(output, "panels", Panel):
        panels[panel.story_id].append(panel)
    for shot in read_manifests(output, "shots", Shot):
        shots[shot.story_id].append(shot)
    for story_id in panels:
        yield Storyboard(
            story_id=story_id, panels=tuple(panels[story_id]), shots=tuple(shots[story_id])
        )


def rates_of(units: dict[str, list[Unit]], story_ids: set[str]) -> dict[str, StageRate]:
    """What the units of some stories would have told a plan."""
    rates = {}
    for stage in STAGES:
        meter = StageMeter()
        for unit in units[stage]:
            if unit.story_id in story_ids:
                meter.took(unit.seconds)
                meter.made(unit.records)
        if (rate := meter.rate()) is not None:
            rates[stage] = rate
    return rates


def _actor_hours(units: Iterable[Unit]) -> float:
    return sum(unit.seconds for unit in units) / 3600


def _outcome(plans: list[Plan], stage: str, actual: float) -> Outcome:
    estimates = [one.actor_hours for plan in plans for one in plan.stages if one.stage == stage]
    return Outcome(
        held=fmean(estimate.low <= actual <= estimate.high for estimate in estimates),
        median_error=median(abs(estimate.value / actual - 1) for estimate in estimates),
        median_width=median((estimate.high - estimate.low) / actual for estimate in estimates),
    )


def _plain(outcome: Outcome) -> dict[str, float]:
    return {name: round(getattr(outcome, name), 3) for name in Outcome.__slots__}


if __name__ == "__main__":
    main()
