"""The stages of a job: prompts, keyframes, motion, films."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.stage_table import (
    SHOTS,
    FilesSpec,
    ManifestSpec,
    ShardContext,
    StageSpec,
    StageTable,
    Unit,
    UnitOf,
)
from storyreel.stages.factories import make_films, make_keyframes, make_motion, make_prompts
from storyreel.stages.output.manifests import STORIES
from storyreel.stages.output.records import Clip, Film, Keyframe, Panel, Shot, ShotKind, Storyboard
from storyreel.stages.units import (
    FilmUnit,
    KeyframesUnit,
    MotionUnit,
    StageFactory,
)


def film_frames(storyboard: Storyboard) -> int:
    """Frames of a story's film; neighbouring clips share a keyframe.

    The film ends with a still, which is not counted: it costs almost nothing.
    """
    return 1 + sum(shot.num_frames - 1 for shot in storyboard.shots)


def _prompts_factory(_output_url: str, config: RenderConfig) -> StageFactory:
    return partial(
        make_prompts,
        config=config.prompts,
        model=config.keyframes.model,
        films=config.films,
        num_frames=config.motion.num_frames,
        limits=config.input,
    )


def _prompts_units(shard: ShardContext) -> Iterator[Unit]:
    for story in shard.rows(STORIES):
        words = replace(story, source_file="", source_row=0)
        yield Unit(story_id=story.story_id, argument=story, made_from=words)


def _prompts_settings(config: RenderConfig) -> Any:
    """What splits a story, what reads its prompts, and what paces its film."""
    pace = config.motion.num_frames, config.films.fps, config.films.still_s
    return config.prompts, config.keyframes.model, pace


def _keyframes_units(shard: ShardContext) -> Iterator[Unit]:
    """One unit a story: attention couples its panels. Stories without a storyboard have none."""
    stories = {story.story_id: story for story in shard.rows(STORIES)}
    panels: defaultdict[str, list[Panel]] = defaultdict(list)
    for panel in shard.rows("panels"):
        panels[panel.story_id].append(panel)
    for story_id, of_story in panels.items():
        unit = KeyframesUnit.of(stories[story_id], of_story)
        seen = replace(unit, panels=tuple(map(_without_caption, of_story)))
        yield Unit(story_id=story_id, argument=unit, made_from=seen)


def _without_caption(panel: Panel) -> Panel:
    """The panel without what its picture does not depend on."""
    return replace(panel, caption="", splitter="", warnings=())


def _motion_units(shard: ShardContext) -> Iterator[Unit]:
    """One unit a shot; the shots of a story whose keyframes failed have none."""
    keyframes = {(k.story_id, k.keyframe_index): k for k in shard.rows("keyframes")}
    for shot in shard.rows(SHOTS):
        if (shot.story_id, 0) in keyframes:
            unit = MotionUnit(
                shot=shot,
                first=keyframes[shot.story_id, shot.shot_index],
                last=keyframes[shot.story_id, shot.shot_index + 1],
                fps=shard.config.films.fps,
            )
            yield Unit(
                story_id=shot.story_id,
                argument=unit,
                shot_index=shot.shot_index,
                made_from=(shot, unit.first.sha256, unit.last.sha256, unit.fps),
            )


def _rendered_frames(clips: Sequence[Clip]) -> int:
    """Frames that a model rendered: cuts, holds and dissolves cost almost nothing."""
    return sum(clip.num_frames for clip in clips if clip.kind is ShotKind.MOTION)


def _planned_frames(storyboard: Storyboard) -> int:
    return sum(shot.num_frames for shot in storyboard.shots if shot.kind is ShotKind.MOTION)


def _films_units(shard: ShardContext) -> Iterator[Unit]:
    failed = {failure.story_id for failure in shard.failures()}
    parts = _parts_of_films(shard)
    for story in shard.rows(STORIES):
        if story.story_id not in failed:
            unit = FilmUnit(
                story_id=story.story_id, shard=shard.shard, fingerprint=shard.fingerprint
            )
            yield Unit(story_id=story.story_id, argument=unit, made_from=parts[story.story_id])


def _parts_of_films(shard: ShardContext) -> defaultdict[str, list[Any]]:
    """What the films are made from: captions, shots, and the checksums of pictures and clips."""
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for panel in shard.rows("panels"):
        parts[panel.story_id].append(panel.caption)
    for shot in shard.rows(SHOTS):
        parts[shot.story_id].append([shot.kind, shot.num_frames])
    for table in ("keyframes", "clips"):
        for made in shard.rows(table):
            parts[made.story_id].append([made.sha256, made.seed])
    return parts


STAGES = StageTable(
    (
        StageSpec(
            name="prompts",
            pool="assembly",
            factory=_prompts_factory,
            units=_prompts_units,
            record=Storyboard,
            settings=_prompts_settings,
            manifests=(
                ManifestSpec(
                    table="panels",
                    record=Panel,
                    order=attrgetter("story_id", "keyframe_index"),
                    rows=attrgetter("panels"),
                ),
                ManifestSpec(
                    table=SHOTS,
                    record=Shot,
                    order=attrgetter("story_id", "shot_index"),
                    rows=attrgetter("shots"),
                ),
            ),
        ),
        StageSpec(
            name="keyframes",
            pool="render",
            factory=lambda url, config: partial(
                make_keyframes, output_url=url, config=config.keyframes
            ),
            units=_keyframes_units,
            record=Keyframe,
            manifests=(
                ManifestSpec(
                    table="keyframes",
                    record=Keyframe,
                    order=attrgetter("story_id", "keyframe_index"),
                ),
            ),
            files=FilesSpec(folder="keyframes"),
            settings=lambda config: (config.keyframes, config.num_threads),
            intermediate=True,
            planned_items=lambda storyboard: len(storyboard.panels),
        ),
        StageSpec(
            name="motion",
            pool="render",
            factory=lambda url, config: partial(make_motion, output_url=url, config=config.motion),
            units=_motion_units,
            record=Clip,
            manifests=(
                ManifestSpec(
                    table="clips", record=Clip, order=attrgetter("story_id", "shot_index")
                ),
            ),
            unit_of=UnitOf.SHOT,
            files=FilesSpec(folder="clips"),
            settings=lambda config: (config.motion, config.num_threads),
            made_from=("keyframes",),
            intermediate=True,
            items=_rendered_frames,
            planned_items=_planned_frames,
        ),
        StageSpec(
            name="films",
            pool="assembly",
            factory=lambda url, config: partial(make_films, output_url=url, config=config.films),
            units=_films_units,
            record=Film,
            manifests=(ManifestSpec(table="films", record=Film),),
            files=FilesSpec(folder="films", suffixes=("mp4", "srt", "vtt", "png")),
            settings=lambda config: config.films,
            made_from=("keyframes", "motion"),
            items=lambda films: sum(film.num_frames for film in films),
            planned_items=film_frames,
        ),
    )
)
