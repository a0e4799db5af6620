"""Splits stories into panels and returns them as input rows that a person can edit and render."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import yaml

from storyreel.flows.job.config import RenderConfig
from storyreel.stages.factories import make_splitting
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.refusals import Refusals
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story
from storyreel.stages.prompts.input_rows import to_input_row
from storyreel.stages.prompts.splitting import Split


class Report:
    """What a person should know of the split: refused rows, and what stays unsure in the others."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.refusals = Refusals()
        self.num_stories = 0
        self._notes: list[str] = []

    def add(self, split: Split) -> None:
        """Note the warnings of a story."""
        self.num_stories += 1
        self._notes += [f"{split.story.story_id}: {warning}" for warning in split.warnings]

    def lines(self) -> Iterator[str]:
        """The report, equal refusals as one line."""
        yield from self._notes
        yield from self.refusals.lines()
        yield f"{self.num_stories} stories, {self.refusals.num_rows} rows refused"


def storyboard_rows(
    input_url: str, config: RenderConfig, *, limit: int | None, report: Report
) -> Iterator[dict[str, Any]]:
    """Yield the first `limit` rows of an input as written storyboards; the report says the rest.

    Raises:
        ValueError: a story's markup is wrong, or the input cannot be read.
        PoolEndedError: the configured chat model cannot be loaded.
    """
    stories = _valid(islice(read_stories(input_url, config.input), limit), report.refusals)
    for split in _split(stories, config):
        report.add(split)
        yield to_input_row(split)


def to_yaml(row: dict[str, Any]) -> str:
    """A row as one item of a YAML list, for people to edit."""
    return yaml.safe_dump([row], allow_unicode=True, sort_keys=False, width=100)


def _valid(rows: Iterable[Story | Rejection], refusals: Refusals) -> Iterator[Story]:
    for row in rows:
        if isinstance(row, Rejection):
            refusals.add(row)
        else:
            yield row


def _split(stories: Iterator[Story], config: RenderConfig) -> Iterator[Split]:
    """Split stories by rules in this process, or with the configured chat model on actors."""
    factory = partial(
        make_splitting,
        config=config.prompts,
        model=config.keyframes.model,
        films=config.films,
        num_frames=config.motion.num_frames,
        limits=config.input,
    )
    if config.prompts.chat is None:
        stage = factory()
        return (split for story in stories for split in stage(story))
    # Ray takes seconds to import and to start; the rules need only a tokenizer.
    from storyreel.flows.pools.splitting import split_on_actors

    return split_on_actors(stories, factory, config)
