"""`storyreel evaluate`: scores what a job has rendered, shard by shard, and takes the means.

A shard's scores are manifests. A seal beside them, published last, tells of which pictures and
under which settings they are; a shard is scored again only where one of these has changed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, reduce
from itertools import groupby
from operator import add
from typing import Any

from rich.console import Console
from rich.progress import track
from safetensors.numpy import load, save

from storyreel.flows.commands.reference_pictures import reference_pictures
from storyreel.flows.job.config import digest
from storyreel.flows.job.job import Job
from storyreel.flows.job.retention import read_removed
from storyreel.stages.models.config import model_revisions
from storyreel.stages.output.manifests import Shard, manifest_path, read_manifest, write_manifest
from storyreel.stages.output.records import Clip, Failure, Film, Keyframe, Panel, to_row
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.bootstrap import BootstrapMean, Estimate
from storyreel.stages.scoring.measures.frechet import FeatureStatistics, frechet_distance
from storyreel.stages.scoring.records import ClipScore, FilmScore, JobScore, PanelScore
from storyreel.stages.scoring.stage import ScoringStage, ScoringUnit

SCORING_VERSION = 2
"""Raised whenever the same pictures would be given other scores than before."""

SCORES: dict[str, type] = {
    "scores_panels": PanelScore,
    "scores_clips": ClipScore,
    "scores_films": FilmScore,
}
JOB_SCORES = "manifests/scores_job/all.parquet"
"""The means over the whole job, as the terminal shows them."""
SEALS = "manifests/scores"
"""Folder of the seals and of the summed features for the Frechet distance."""
NO_FIGURES = frozenset(
    {
        *("story_id", "keyframe_index", "shot_index", "kind"),
        *("seen_place", "seen_time", "seen_figures"),
    }
)
"""Columns of which there is no mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrechetDistance:
    """The distance of the keyframes to the reference pictures, and how many there are of both."""

    distance: float
    num_keyframes: int
    num_references: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of a job.

    Attributes:
        num_stories: the stories that are scored.
        num_failures: stories of finished shards that have no film.
        num_removed: stories whose keyframes and clips were let go before they were scored.
        unfinished: the shards that are not rendered yet.
        means: by table and figure; null where no row has that figure.
    """

    output: str
    num_stories: int
    num_failures: int
    num_removed: int
    unfinished: tuple[str, ...]
    means: Mapping[str, Mapping[str, Estimate | None]]
    frechet: FrechetDistance | None

    def as_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """What a shard's scores are of: `digest` of its pictures and the settings."""

    digest: str
    num_stories: int
    num_failures: int
    num_removed: int


def evaluate(job: Job, config: ScoringConfig, reference: str | None = None) -> Evaluation:
    """Score the finished shards of a job that are not scored yet, and take the means over all.

    Args:
        job: the job; its unfinished shards are left out.
        config: the encoder and the limits.
        reference: a folder or URL of pictures to take the Frechet distance of the keyframes to.

    Raises:
        ValueError: no shard is finished, a file is damaged, or the reference holds no picture.
        OSError: the encoder cannot be loaded.
    """
    unfinished = job.unfinished()
    finished = [shard for shard in job.shards if shard not in unfinished]
    if not finished:
        raise ValueError(f"output {job.output.url}: no shard is finished yet, nothing to evaluate")
    scorer = _Scorer(job.output, config)
    console = Console(stderr=True)
    seals = [scorer.score(shard) for shard in track(finished, "scoring", console=console)]
    evaluation = Evaluation(
        output=job.output.url,
        num_stories=sum(seal.num_stories for seal in seals),
        num_failures=sum(seal.num_failures for seal in seals),
        num_removed=sum(seal.num_removed for seal in seals),
        unfinished=tuple(map(str, unfinished)),
        means={table: _means(job.output, table, finished) for table in SCORES},
        frechet=None if reference is None else scorer.frechet(finished, reference),
    )
    _publish(job.output, list(_job_scores(evaluation)))
    return evaluation


def _publish(output: Output, scores: list[JobScore]) -> None:
    there = output.exists(JOB_SCORES) and read_manifest(output, JOB_SCORES, JobScore)
    if there != scores:
        write_manifest(output, JOB_SCORES, JobScore, scores)


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
    """Scores shards; the encoder is loaded when there is something to score."""

    def __init__(self, output: Output, config: ScoringConfig) -> None:
        self._output = output
        self._config = config
        self._settings = _settings(config)

    @cached_property
    def _stage(self) -> ScoringStage:
        return ScoringStage(output_url=self._output.url, config=self._config)

    def score(self, shard: Shard) -> _Seal:
        """Bring a finished shard to its seal, unless it has one for these settings."""
        wanted = digest([self._settings, _rendered(self._output, shard)])
        seal = _read_seal(self._output, shard)
        if seal is not None and seal.digest == wanted:
            return seal
        # First the old seal goes: it must never vouch for tables of which some are new.
        self._output.remove(_seal_path(shard))
        films = [film.story_id for film in _read(self._output, "films", Film, shard)]
        removed = read_removed(self._output, shard)
        stories = [story_id for story_id in films if story_id not in removed]
        self._score_stories(shard, stories)
        seal = _Seal(
            digest=wanted,
            num_stories=len(stories),
            num_failures=len(_read(self._output, "failures", Failure, shard)),
            num_removed=len(films) - len(stories),
        )
        self._output.publish(_seal_path(shard), json.dumps(asdict(seal), indent=1).encode())
        return seal

    def _score_stories(self, shard: Shard, story_ids: Iterable[str]) -> None:
        rows: dict[str, list[Any]] = {table: [] for table in SCORES}
        features: FeatureStatistics | None = None
        for story_id in story_ids:
            story = self._stage(ScoringUnit(story_id=story_id, shard=shard))
            rows["scores_panels"] += story.panels
            rows["scores_clips"] += story.clips
            rows["scores_films"].append(story.film)
            features = story.features if features is None else features + story.features
        for table, record in SCORES.items():
            write_manifest(self._output, manifest_path(table, shard), record, rows[table])
        if features is not None:
            self._output.publish(_features_path(shard), save(features.arrays()))

    def frechet(self, shards: Sequence[Shard], reference: str) -> FrechetDistance:
        """The distance of the shards' keyframes to the pictures of a reference."""
        there = reference_pictures(reference)
        features = list(self._features(shards))
        if not features:
            raise ValueError(
                f"--reference {reference}: there is no keyframe at {self._output.url} to compare"
                " with; evaluate before retention.keep lets them go"
            )
        references = reduce(add, self._stage.features(there))
        keyframes = reduce(add, features)
        return FrechetDistance(
            distance=frechet_distance(keyframes, references),
            num_keyframes=keyframes.count,
            num_references=references.count,
        )

    def _features(self, shards: Iterable[Shard]) -> Iterator[FeatureStatistics]:
        for shard in shards:
            if self._output.exists(_features_path(shard)):
                yield FeatureStatistics.of_arrays(load(self._output.read(_features_path(shard))))


def _settings(config: ScoringConfig) -> dict[str, Any]:
    """What shapes the scores beside the pictures: settings and weights."""
    return {
        "scoring_version": SCORING_VERSION,
        "settings": config.model_dump(mode="json", exclude={"batch_size"}),
        "models": model_revisions(config),
    }


def _rendered(output: Output, shard: Shard) -> str:
    """A hash of a shard's panels, keyframes, clips and films; their checksums are in the rows."""
    tables: dict[str, type] = {"panels": Panel, "keyframes": Keyframe, "clips": Clip, "films": Film}
    rows = [
        to_row(row)
        for table, record in tables.items()
        for row in _read(output, table, record, shard)
    ]
    return digest(rows)


def _read(output: Output, table: str, record: type, shard: Shard) -> list[Any]:
    return read_manifest(output, manifest_path(table, shard), record)


def _read_seal(output: Output, shard: Shard) -> _Seal | None:
    """The seal of a shard's scores, if there is one that can be read."""
    try:
        return output.read_json(_seal_path(shard), lambda seal: _Seal(**seal))
    except (FileNotFoundError, ValueError):
        return None  # none yet, of another version, or damaged: the shard is scored


def _seal_path(shard: Shard) -> str:
    return manifest_path("scores", shard).replace(".parquet", ".json")


def _features_path(shard: Shard) -> str:
    return manifest_path("scores", shard).replace(".parquet", ".safetensors")


def _means(output: Output, table: str, shards: Iterable[Shard]) -> dict[str, Estimate | None]:
    """The means of a table's figures over all rows; a row without the figure does not count."""
    record = SCORES[table]
    figures = [field.name for field in fields(record) if field.name not in NO_FIGURES]
    means = {name: BootstrapMean() for name in figures}
    for shard in shards:
        rows = sorted(_read(output, table, record, shard), key=lambda row: str(row.story_id))
        for story_id, group in groupby(rows, key=lambda row: str(row.story_id)):
            of_story = list(group)
            for name in figures:
                values = (getattr(row, name) for row in of_story)
                means[name].add(story_id, [value for value in values if value is not None])
    return {name: mean.estimate() for name, mean in means.items()}
