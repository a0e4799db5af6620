"""Stories split into panels, as input rows that a person can edit and render."""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.stages.input.stories import Rejection, read_stories
from storyreel.stages.prompts.stage import PromptsStage, to_input_row

logger = logging.getLogger(__name__)


def storyboard_rows(
    input_url: str, config: RenderConfig, *, limit: int | None
) -> Iterator[dict[str, Any]]:
    """The first `limit` rows of an input as written storyboards; bad rows are logged."""
    stage = PromptsStage(
        config=config.prompts,
        model=config.keyframes.model,
        num_frames=config.motion.num_frames,
        fps=config.films.fps,
    )
    for row in islice(read_stories(input_url), limit):
        if isinstance(row, Rejection):
            logger.warning("%s, row %d: %s", row.source_file, row.source_row, row.message)
            continue
        yield to_input_row(stage.split(row))
