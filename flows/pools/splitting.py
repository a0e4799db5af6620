"""Splits stories with a chat model, on the actors of the assembly pool.

The driver's process never loads a model, so that it stays small and the model has its GPU.
"""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice

from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.pools.command import run_units
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output
from storyreel.stages.prompts.splitting import Split
from storyreel.stages.units import StageFactory

BATCH_SIZE = 64
"""Stories that are handed to the pool together."""


def split_on_actors(
    stories: Iterator[Story], factory: StageFactory, config: RenderConfig
) -> Iterator[Split]:
    """Yield the stories as written storyboards, in order.

    Commit records go to a temporary folder, on a cluster one of each machine; nothing reads them.

    Args:
        factory: constructs a stage that returns a `Split`.

    Raises:
        ValueError: the markup of a story is wrong.
        PoolEndedError: the chat model cannot be loaded.
        ConnectionError: the configured Ray cluster cannot be reached.
    """
    with (
        tempfile.TemporaryDirectory(prefix="storyboard-") as folder,
        connected(config.cluster),
        Pool(
            name="assembly",
            stages={"prompts": factory},
            output=Output(folder),
            config=config.pools.assembly,
            num_threads=config.num_threads,
        ) as pool,
    ):
        while batch := list(islice(stories, BATCH_SIZE)):
            yield from _split(pool, batch)


def _split(pool: Pool, stories: Iterable[Story]) -> list[Split]:
    arguments = {story.story_id: story for story in stories}
    return run_units(pool, "prompts", Shard(index=0, count=1), arguments)
