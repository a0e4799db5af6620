"""Splits stories into panels and returns them as input rows that a person can edit and render."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.stages.factories import make_splitting
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story
from storyreel.stages.prompts.input_rows import to_input_row
from storyreel.stages.prompts.splitting import Split

logger = logging.getLogger(__name__)


def storyboard_rows(
    input_url: str, config: RenderConfig, *, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Yield the first `limit` rows of an input as written storyboards; invalid rows are logged.

    Raises:
        ValueError: a story's markup is wrong, or the input cannot be read.
        PoolEndedError: the configured chat model cannot be loaded.
    """
    stories = _valid(islice(read_stories(input_url, config.input), limit))
    yield from map(to_input_row, _split(stories, config))


def _valid(rows: Iterable[Story | Rejection]) -> Iterator[Story]:
    for row in rows:
        if isinstance(row, Rejection):
            logger.warning("%s, row %d: %s", row.source_file, row.source_row, row.message)
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
