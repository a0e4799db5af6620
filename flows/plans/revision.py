"""Plans a revision: how many units of each stage it renders again at most, and for how long.

Fewer are rendered if pictures come out with the bytes that they had: the clips beside them stay.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storyreel.flows.edits.inputs import inputs_of, settings_of
from storyreel.flows.edits.revision import Revision
from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import Job
from storyreel.flows.job.retention import read_removed
from storyreel.flows.job.stage_table import SHOTS, ShardContext, StageSpec, UnitOf
from storyreel.flows.plans.plan import Split
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_table
from storyreel.stages.output.records import Failure, Story, Storyboard
from storyreel.stages.output.serialization import from_table


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRevision:
    """The units of a stage that a revision renders.

    Attributes:
        again: units that are rendered again, at most.
        new: units of new stories.
        total: units of the job before the revision.
        hours: actor-hours of both; `None` if the stage was not measured.
    """

    stage: str
    again: int
    new: int
    total: int
    hours: float | None


def plan_revision(
    job: Job, revision: Revision, before: RenderConfig, after: RenderConfig, split: Split
) -> tuple[StageRevision, ...]:
    """Plan a revision, stage by stage.

    Args:
        before: the job's configuration.
        after: the one that it is to have.
        split: returns the storyboard of a story, as the configuration `after` splits it.
    """
    again = Counter[str]()
    for shard, stories in revision.changed.items():
        again += _again_in(job, shard, stories, before, after, split)
    new = _units_of(job, _storyboards(revision.added, split))
    new[job.stages.specs[0].name] = len(revision.added)
    stale, totals, rates = _stale_stages(job, before, after), _totals(job), read_rates(job.output)
    for name in stale:
        again[name] = max(again[name], totals[name])
    return tuple(
        StageRevision(
            stage=name,
            again=again[name],
            new=new[name],
            total=totals[name],
            hours=_hours(again[name] + new[name], rates.get(name)),
        )
        for name in job.stages.names
    )


def _hours(num_units: int, rate: StageRate | None) -> float | None:
    return None if rate is None else num_units * rate.mean_s / 3600


def _stale_stages(job: Job, before: RenderConfig, after: RenderConfig) -> set[str]:
    """The stages whose settings were edited, and those that are made from them."""
    first = job.stages.specs[0].name
    stale: set[str] = set()
    for spec in job.stages:
        edited = settings_of(spec, before) != settings_of(spec, after)
        if edited or first in stale or stale.intersection(spec.made_from):
            stale.add(spec.name)
    return stale


def _totals(job: Job) -> Counter[str]:
    """The units of a job; shots count as far as they are planned."""
    shots = sum(_num_rows(job, shard) for shard in job.shards)
    return Counter(
        {s.name: shots if s.unit_of is UnitOf.SHOT else job.num_stories for s in job.stages}
    )


def _num_rows(job: Job, shard: Shard) -> int:
    try:
        return int(read_table(job.output, manifest_path(SHOTS, shard)).num_rows)
    except FileNotFoundError:
        return 0


def _storyboards(stories: Iterable[Story], split: Split) -> Iterator[Storyboard]:
    for story in stories:
        try:
            yield from split(story)
        except ValueError:
            continue  # the same error is reported as a failure when the job runs


def _units_of(job: Job, storyboards: Iterable[Storyboard]) -> Counter[str]:
    units = Counter[str]()
    for storyboard in storyboards:
        for spec in job.stages:
            units[spec.name] += spec.planned_units(storyboard)
    return units


@dataclass(frozen=True, slots=True, kw_only=True)
class _Excerpt(ShardContext):
    """What the stages have written of one story; nothing is read."""

    tables: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def rows(self, table: str) -> list[Any]:
        return list(self.tables.get(table, ()))

    def failures(self) -> list[Failure]:
        return []


def _again_in(
    job: Job,
    shard: Shard,
    stories: Sequence[Story],
    before: RenderConfig,
    after: RenderConfig,
    split: Split,
) -> Counter[str]:
    """The units of edited stories of a shard that are rendered again."""
    ids = [story.story_id for story in stories]
    tables = {table: _rows(job, shard, table, ids) for table in (STORIES, *job.stages.records)}
    removed = read_removed(job.output, shard)
    again = Counter[str]()
    for story in stories:
        again[job.stages.specs[0].name] += 1
        mine = {t: [r for r in rows if r.story_id == story.story_id] for t, rows in tables.items()}
        for storyboard in _storyboards([story], split):
            now = {
                **mine,
                STORIES: [story],
                "panels": list(storyboard.panels),
                SHOTS: list(storyboard.shots),
            }
            old, new = _excerpt(job, shard, before, mine), _excerpt(job, shard, after, now)
            again += _again_of(storyboard, old, new, rendered=story.story_id not in removed)
    return again


def _again_of(
    storyboard: Storyboard, old: _Excerpt, new: _Excerpt, *, rendered: bool
) -> Counter[str]:
    """The units of one story that are rendered again, after its prompts.

    Args:
        rendered: whether its pictures and clips are still there.
    """
    again = Counter[str]()
    for spec in new.stages.specs[1:]:
        if not rendered or any(again[source] for source in spec.made_from):
            again[spec.name] = spec.planned_units(storyboard)
        else:
            there, wanted = _inputs(spec, old), _inputs(spec, new)
            again[spec.name] = sum(there.get(name) != inputs for name, inputs in wanted.items())
    return again


def _inputs(spec: StageSpec, context: _Excerpt) -> dict[int | None, str]:
    settings = settings_of(spec, context.config)
    return {unit.shot_index: inputs_of(unit, settings) for unit in spec.units(context)}


def _excerpt(
    job: Job, shard: Shard, config: RenderConfig, tables: Mapping[str, Sequence[Any]]
) -> _Excerpt:
    return _Excerpt(
        output=job.output,
        shard=shard,
        fingerprint=job.fingerprint,
        config=config,
        stages=job.stages,
        tables=tables,
    )


def _rows(job: Job, shard: Shard, table: str, story_ids: Sequence[str]) -> list[Any]:
    """The rows of some stories in a manifest, which need not be there."""
    record = Story if table == STORIES else job.stages.records[table]
    try:
        found = read_table(job.output, manifest_path(table, shard))
    except FileNotFoundError:
        return []
    chosen = pc.is_in(found.column("story_id"), value_set=pa.array(story_ids, pa.string()))
    return from_table(record, found.filter(chosen))
