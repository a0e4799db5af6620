"""`storyreel evaluate`: scores the finished shards of a job, and computes the means.

The scores of a shard are manifests. A seal beside them, published last, contains a hash of the
pictures and of the settings; a shard is scored again only if one of these has changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from itertools import groupby
from operator import add
from typing import Any

from rich.console import Console
from rich.progress import track
from safetensors.numpy import load, save

from storyreel.flows.job.config import RenderConfig, digest
from storyreel.flows.job.job import Job
from storyreel.flows.job.retention import read_removed
from storyreel.flows.job.stage_table import FAILURES
from storyreel.flows.pools.scoring import ScoringPool
from storyreel.stages.errors import InputError
from storyreel.stages.models.config import model_revisions
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest, write_manifest
from storyreel.stages.output.serialization import to_json, to_row
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.bootstrap import BootstrapMean, MeanEstimate
from storyreel.stages.scoring.measures.frechet import FeatureStatistics, frechet_distance
from storyreel.stages.scoring.records import FilmScore, JobScore, PanelScore, ShotScore
from storyreel.stages.scoring.reference_pictures import check_has_pictures

SCORING_VERSION = 2
"""Raised whenever the same pictures would get other scores than before."""

SCORES: dict[str, type] = {
    "scores_panels": PanelScore,
    "scores_clips": ShotScore,
    "scores_films": FilmScore,
}
JOB_SCORES = "manifests/scores_job/all.parquet"
"""The means over the whole job."""
SEALS = "manifests/scores"
"""Folder of the seals, and of the summed features for the Frechet distance."""
NO_FIGURES = frozenset(
    {
        *("story_id", "keyframe_index", "shot_index", "kind"),
        *("seen_place", "seen_time", "seen_figures"),
    }
)
"""Columns without a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrechetDistance:
    """The distance of the keyframes to the reference pictures, and the number of both."""

    distance: float
    num_keyframes: int
    num_references: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of a job.

    Attributes:
        num_stories: number of scored stories.
        num_failures: stories of finished shards that have no film.
        num_removed: stories whose keyframes and clips were removed before they were scored.
        unfinished: the shards that are not rendered yet.
        means: by table and figure; `None` if no row has that figure.
    """

    output: str
    num_stories: int
    num_failures: int
    num_removed: int
    unfinished: tuple[str, ...]
    means: Mapping[str, Mapping[str, MeanEstimate | None]]
    frechet: FrechetDistance | None

    def as_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """Identifies what the scores of a shard depend on: `digest` of pictures and settings."""

    digest: str
    num_stories: int
    num_failures: int
    num_removed: int


def evaluate(job: Job, config: RenderConfig, reference: str | None = None) -> Evaluation:
    """Score the finished shards of a job that are not scored yet, and compute the means over all.

    The stories are scored by the actors of `pools.scoring`; this process loads no model.

    Args:
        job: the job; its unfinished shards are left out.
        config: the encoder and its limits (`scoring`), and where it runs (`pools`, `cluster`).
        reference: a folder or URL of pictures; the Frechet distance of the keyframes to them is
            computed. The actors must be able to read it.

    Raises:
        ValueError: no shard is finished, a file is damaged, or the reference contains no picture.
        LockedError: another evaluation scores the same job.
        PoolEndedError: the encoder cannot be loaded, or a story could not be scored.
        ConnectionError: the configured Ray cluster cannot be reached.
    """
    unfinished = job.unfinished()
    finished = [shard for shard in job.shards if shard not in unfinished]
    if not finished:
        raise InputError(f"output {job.output.url}: no shard is finished yet, nothing to evaluate")
    console = Console(stderr=True)
    with ScoringPool(job, config) as pool:
        scorer = _Scorer(job, config.scoring, pool)
        seals = [scorer.score(shard) for shard in track(finished, "scoring", console=console)]
        distance = None if reference is None else scorer.frechet(finished, reference)
    evaluation = Evaluation(
        output=job.output.url,
        num_stories=sum(seal.num_stories for seal in seals),
        num_failures=sum(seal.num_failures for seal in seals),
        num_removed=sum(seal.num_removed for seal in seals),
        unfinished=tuple(map(str, unfinished)),
        means={table: _means(job.output, table, finished) for table in SCORES},
        frechet=distance,
    )
    _publish(job, list(_job_scores(evaluation)))
    return evaluation


def _publish(job: Job, scores: list[JobScore]) -> None:
    there = job.output.exists(JOB_SCORES) and read_manifest(job.output, JOB_SCORES, JobScore)
    if there != scores:
        fingerprint = job.fingerprint
        write_manifest(job.output, JOB_SCORES, JobScore, scores, fingerprint=fingerprint)


def _job_scores(evaluation: Evaluation) -> Iterator[JobScore]:
    for table, means in evaluation.means.items():
        for figure, estimate in means.items():
            if estimate is not None:
                yield JobScore(
                    of=table.removeprefix("scores_"),
                    figure=figure,
                    mean=estimate.mean,
                    low=estimate.low,
                    high=estimate.high,
                    count=estimate.count,
                    num_stories=estimate.num_groups,
                )
    if evaluation.frechet is not None:
        yield JobScore(
            of="job",
            figure="frechet_distance",
            mean=evaluation.frechet.distance,
            low=None,
            high=None,
            count=evaluation.frechet.num_keyframes,
            num_stories=evaluation.num_stories,
        )


class _Scorer:
    """Scores the shards of a job that have no valid seal, and seals them."""

    def __init__(self, job: Job, config: ScoringConfig, pool: ScoringPool) -> None:
        self._job = job
        self._output = job.output
        self._pool = pool
        self._settings = _settings(config)

    def score(self, shard: Shard) -> _Seal:
        """Score a finished shard and seal its scores, unless there is a seal for these settings."""
        wanted = digest([self._settings, self._rendered(shard)])
        seal = _read_seal(self._output, shard)
        if seal is not None and seal.digest == wanted:
            return seal
        # The old seal is removed first: it must never stand for tables of which some are new.
        self._output.remove(_seal_path(shard))
        films = [film.story_id for film in self._read("films", shard)]
        removed = read_removed(self._output, shard)
        stories = [story_id for story_id in films if story_id not in removed]
        self._score_stories(shard, stories)
        seal = _Seal(
            digest=wanted,
            num_stories=len(stories),
            num_failures=len(self._read(FAILURES, shard)),
            num_removed=len(films) - len(stories),
        )
        self._output.publish(_seal_path(shard), to_json(seal))
        return seal

    def _score_stories(self, shard: Shard, story_ids: Sequence[str]) -> None:
        stories = self._pool.score(shard, story_ids)
        rows: dict[str, list[Any]] = {
            "scores_panels": [panel for story in stories for panel in story.panels],
            "scores_clips": [clip for story in stories for clip in story.clips],
            "scores_films": [story.film for story in stories],
        }
        for table, record in SCORES.items():
            path, fingerprint = manifest_path(table, shard), self._job.fingerprint
            write_manifest(self._output, path, record, rows[table], fingerprint=fingerprint)
        if stories:
            features = self._pool.features([story.features for story in stories])
            self._output.publish(_features_path(shard), save(features.arrays()))
            self._pool.forget()

    def frechet(self, shards: Sequence[Shard], reference: str) -> FrechetDistance:
        """Return the distance of the shards' keyframes to the pictures of a reference."""
        check_has_pictures(reference)
        features = list(self._features(shards))
        if not features:
            raise InputError(
                f"--reference {reference}: there is no keyframe at {self._output.url} to compare"
                " with; evaluate before retention.keep removes them"
            )
        references = self._pool.reference(reference)
        keyframes = reduce(add, features)
        self._pool.forget()
        return FrechetDistance(
            distance=frechet_distance(keyframes, references),
            num_keyframes=keyframes.count,
            num_references=references.count,
        )

    def _features(self, shards: Iterable[Shard]) -> Iterator[FeatureStatistics]:
        for shard in shards:
            if self._output.exists(_features_path(shard)):
                yield FeatureStatistics.of_arrays(load(self._output.read(_features_path(shard))))

    def _rendered(self, shard: Shard) -> str:
        """Hash a shard's panels, keyframes, clips and films; checksums of files are in the rows."""
        tables = ("panels", "keyframes", "clips", "films")
        return digest([to_row(row) for table in tables for row in self._read(table, shard)])

    def _read(self, table: str, shard: Shard) -> list[Any]:
        record = self._job.stages.records[table]
        return read_manifest(self._output, manifest_path(table, shard), record)


def _settings(config: ScoringConfig) -> dict[str, Any]:
    """Settings and weights: all that scores depend on besides the pictures."""
    return {
        "scoring_version": SCORING_VERSION,
        "settings": config.model_dump(mode="json", exclude={"batch_size"}),
        "models": model_revisions(config),
    }


def _read_seal(output: Output, shard: Shard) -> _Seal | None:
    """Read the seal of a shard's scores; `None` if there is none that can be read."""
    try:
        return output.read_record(_seal_path(shard), _Seal)
    except (FileNotFoundError, ValueError):
        return None  # no seal yet, of another version, or damaged: the shard is scored


def _seal_path(shard: Shard) -> str:
    return manifest_path("scores", shard).replace(".parquet", ".json")


def _features_path(shard: Shard) -> str:
    return manifest_path("scores", shard).replace(".parquet", ".safetensors")


def _means(output: Output, table: str, shards: Iterable[Shard]) -> dict[str, MeanEstimate | None]:
    """Compute the means of a table's figures over all rows that have the figure."""
    record = SCORES[table]
    figures = [field.name for field in fields(record) if field.name not in NO_FIGURES]
    means = {name: BootstrapMean() for name in figures}
    for shard in shards:
        rows: list[Any] = read_manifest(output, manifest_path(table, shard), record)
        rows.sort(key=lambda row: str(row.story_id))
        for story_id, group in groupby(rows, key=lambda row: str(row.story_id)):
            of_story = list(group)
            for name in figures:
                values = (getattr(row, name) for row in of_story)
                means[name].add(story_id, [value for value in values if value is not None])
    return {name: mean.estimate() for name, mean in means.items()}
