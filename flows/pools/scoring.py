"""The pool of actors that scores stories for `storyreel evaluate`.

This process only sends units and reads records: it loads no encoder, and never imports torch.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property, partial, reduce
from operator import add
from types import TracebackType
from typing import Self

from safetensors.numpy import load

from storyreel.cluster.pool import Pool
from storyreel.cluster.ray_runtime import connected
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import Job
from storyreel.flows.job.lock import HeldOutput, held
from storyreel.flows.pools.command import run_units
from storyreel.stages.factories import make_scoring
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.patience import patient
from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.measures.frechet import FeatureStatistics
from storyreel.stages.scoring.records import StoryScores
from storyreel.stages.units import ReferenceUnit, ScoringUnit

SCORING = "scoring"
"""Name of the stage, of its pool, and of the folder of what is removed after a shard is scored."""


class ScoringPool:
    """Scores stories on actors, which are started with the first unit.

    Records of units and files of features are only kept until their shard is scored. They lie in
    an output of their own below the job, which has a lock of its own: a job may be rendered while
    its finished shards are scored, but two evaluations would remove each other's files.
    """

    def __init__(self, job: Job, config: RenderConfig) -> None:
        self._job = job
        self._config = config
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def score(self, shard: Shard, story_ids: Sequence[str]) -> list[StoryScores]:
        """Score stories of a shard; returns their scores in the same order.

        Raises:
            LockedError: another evaluation scores the same job.
            PoolEndedError: no actor can load the encoder, or a story was given up.
            ValueError: a file of a story is damaged.
        """
        units = {i: ScoringUnit(story_id=i, shard=shard) for i in story_ids}
        return run_units(self._pool, SCORING, shard, units) if units else []

    def reference(self, url: str) -> FeatureStatistics:
        """Sum up the features of the pictures in a folder; raises as `score` does."""
        units = {"reference": ReferenceUnit(url=url)}
        scores = run_units(self._pool, SCORING, Shard(index=0, count=1), units)
        return self.features([score.features for score in scores])

    def features(self, files: Sequence[File]) -> FeatureStatistics:
        """Add up the summed features in at least one file."""
        contents = map(self._job.output.read_checked, files)
        return reduce(add, (FeatureStatistics.of_arrays(load(content)) for content in contents))

    def forget(self) -> None:
        """Remove the records and features of what was scored so far."""
        for folder in ("units", "features"):
            self._working.remove_folder(folder)

    @cached_property
    def _working(self) -> HeldOutput:
        url = f"{self._job.output.url.rstrip('/')}/{SCORING}"
        return self._stack.enter_context(held(Output(url), "an evaluation"))

    @cached_property
    def _pool(self) -> Pool:
        self.forget()  # what an evaluation left that was killed, perhaps with other settings
        self._stack.enter_context(connected(self._config.cluster))
        scoring = partial(
            make_scoring, output_url=self._job.output.url, config=self._config.scoring
        )
        return self._stack.enter_context(
            Pool(
                name=SCORING,
                stages={SCORING: partial(patient, scoring, self._config.storage.patience_s)},
                output=self._working,
                config=self._config.pools.scoring,
                num_threads=self._config.num_threads,
            )
        )
