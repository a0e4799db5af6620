"""Stage 1: a story becomes panels to render and shots between them."""

import dataclasses
import itertools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from transformers.utils.hub import cached_file

from storyreel.stages.input.markup import (
    check_tags,
    escape_caption_marks,
    markup_of,
    parse_markup,
    plain_words,
)
from storyreel.stages.models.config import ModelConfig, resolve
from storyreel.stages.output.records import (
    Panel,
    PanelInput,
    PanelMarkup,
    Shot,
    ShotKind,
    Story,
    Storyboard,
)
from storyreel.stages.prompts.beats import (
    FilmTiming,
    count_beats,
    ends_still,
    plan_joins,
    planned_frames,
)
from storyreel.stages.prompts.characters import (
    caption_of,
    carry_on,
    find_subjects,
    tag_introductions,
)
from storyreel.stages.prompts.compose import (
    Prompt,
    TokenBudget,
    compose,
    compose_motion,
    compose_negative,
)
from storyreel.stages.prompts.config import ChatConfig, PromptsConfig, Style
from storyreel.stages.prompts.sentences import (
    merge_short,
    merge_to_count,
    split_long,
    split_sentences,
    split_to_count,
)
from storyreel.stages.seeds import derive_seed

if TYPE_CHECKING:
    from storyreel.stages.prompts.chat import ChatDirector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A story as a written storyboard: every panel with its characters, caption and beats.

    `story` has panels and no prose; `splitter` says who made them.
    """

    story: Story
    splitter: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A panel's prompt and the rest that its beats share."""

    markup: PanelMarkup
    prompt: Prompt
    caption: str


class PromptsStage:
    """Turns stories into storyboards; holds the tokenizers, and the chat model if there is one.

    Args:
        config: how to split and what to add.
        model: whose text encoders read the prompts.
        num_frames: frames of a clip of motion, both keyframes included.
        fps: frames of the film per second.
    """

    def __init__(
        self, *, config: PromptsConfig, model: ModelConfig, num_frames: int, fps: int
    ) -> None:
        self._config = config
        self._timing = FilmTiming.of(config, num_frames, fps)
        self._budget = TokenBudget(load_tokenizers(model))
        self._director = None if config.chat is None else _load_director(config.chat)

    def __call__(self, story: Story) -> tuple[Storyboard]:
        """The storyboard of a story.

        Raises:
            ValueError: the story's markup is wrong.
        """
        split = self.split(story)
        return (self._storyboard(split),)

    def split(self, story: Story) -> Split:
        """The story as a storyboard that a person can edit and render to the same film.

        Raises:
            ValueError: the story's markup is wrong.
        """
        warnings: tuple[str, ...] = ()
        splitter = "written"
        if story.text is not None:
            story, splitter, warnings = self._split_prose(story)
        panels = carry_on(story.panels, story.characters)
        duration_s = story.duration_s or self._config.duration_s
        beats = count_beats(panels, duration_s, self._timing)
        warnings += _length_warnings(panels, beats, duration_s, self._timing)
        panels = tuple(
            dataclasses.replace(panel, beats=count)
            for panel, count in zip(panels, beats, strict=True)
        )
        return Split(
            story=dataclasses.replace(story, panels=panels), splitter=splitter, warnings=warnings
        )

    def _split_prose(self, story: Story) -> tuple[Story, str, tuple[str, ...]]:
        assert story.text is not None
        text, characters = story.text, story.characters
        check_tags(text, [character.name for character in characters])
        found = () if characters else find_subjects(text)
        passages = self._passages(text, story.duration_s or self._config.duration_s)
        characters = characters or found
        texts = [escape_caption_marks(passage) for passage in passages]
        tagged = [tag_introductions(text, found) for text in texts]
        names = [character.name for character in characters]
        panels = tuple(
            _panel(text, None if text == words else plain_words(words), names)
            for text, words in zip(tagged, texts, strict=True)
        )
        story = dataclasses.replace(story, text=None, characters=characters, panels=panels)
        told = tuple(f"characters: found {c.name!r}, {c.description!r}" for c in found)
        if self._director is None:
            return story, "rules", told
        story, splitter, warnings = self._directed(story, self._director)
        return story, splitter, told + warnings

    def _passages(self, text: str, duration_s: float | None) -> list[str]:
        sentences = split_sentences(text, self._config.language)
        sentences = merge_short(sentences, self._config.min_panel_words)
        sentences = split_long(sentences, self._config.max_panel_words)
        if duration_s is None:
            return sentences
        count = self._timing.keyframes_of_motion(duration_s)
        return split_to_count(merge_to_count(sentences, count), count)

    def _directed(
        self, story: Story, director: "ChatDirector"
    ) -> tuple[Story, str, tuple[str, ...]]:
        names = [character.name for character in story.characters]
        captions = [caption_of(panel, markup_of(panel, names)) for panel in story.panels]
        try:
            texts = director.describe(captions, story.characters)
        except ValueError as error:  # of the answer; a model that cannot run is the pool's affair
            reason = f"chat failed: {type(error).__name__}: {error}"[:300]
            logger.warning("story %s: %s; the rules split it", story.story_id, reason)
            return story, f"rules ({reason})", (f"panels: {reason}",)
        panels = tuple(
            _panel(text, caption, names) for text, caption in zip(texts, captions, strict=True)
        )
        return dataclasses.replace(story, panels=panels), "chat", ()

    def _storyboard(self, split: Split) -> Storyboard:
        story = split.story
        style = self._config.find_style(story.style or self._config.style)
        negative, cut = compose_negative(
            story.negative_prompt or self._config.negative_prompt, style, self._budget
        )
        written = [self._write(story, panel, style) for panel in story.panels]
        panels = _panels(split, written, negative, cut)
        return Storyboard(
            story_id=story.story_id,
            panels=panels,
            shots=self._shots(story, panels, written, style),
        )

    def _write(self, story: Story, panel: PanelInput, style: Style) -> _Written:
        descriptions = {c.name: c.description for c in story.characters}
        markup = markup_of(panel, descriptions)
        prompt = compose(markup, descriptions, style, self._budget)
        return _Written(markup=markup, prompt=prompt, caption=caption_of(panel, markup))

    def _shots(
        self, story: Story, panels: tuple[Panel, ...], written: list[_Written], style: Style
    ) -> tuple[Shot, ...]:
        """One shot for each neighbouring pair; beats of one panel are joined by motion."""
        shots = []
        joins = plan_joins(story.panels, tuple(panel.beats or 1 for panel in story.panels))
        for index, (first, second) in enumerate(itertools.pairwise(panels)):
            same_panel = first.panel_index == second.panel_index
            kind = ShotKind.MOTION if same_panel else joins[first.panel_index]
            prompts = written[first.panel_index].prompt, written[second.panel_index].prompt
            shots.append(
                Shot(
                    story_id=story.story_id,
                    shot_index=index,
                    kind=kind,
                    text=compose_motion(*prompts, style, self._budget),
                    negative_prompt=second.negative_prompt,
                    seed=derive_seed(story.story_id, story.seed, "shot", index),
                    num_frames=self._timing.shot_frames(kind),
                )
            )
        return tuple(shots)


def _load_director(config: ChatConfig) -> "ChatDirector":
    # Imports torch, which the rules do not need: plans and storyboards are made without it.
    from storyreel.stages.prompts.chat import ChatDirector  # noqa: PLC0415

    return ChatDirector(config)


def load_tokenizers(model: ModelConfig) -> list[Any]:
    """The tokenizers of a pipeline's text encoders, one or two; no weights are read."""
    path = resolve(model.path)
    index_file: Any = cached_file(path, "model_index.json", revision=model.revision)
    index: Mapping[str, Any] = json.loads(Path(index_file).read_text(encoding="utf-8"))
    names = [name for name in ("tokenizer", "tokenizer_2") if index.get(name, [None])[0]]
    if not names:
        raise ValueError(f"model {model.path}: has no tokenizer")
    return [
        getattr(transformers, index[name][1]).from_pretrained(
            path, subfolder=name, revision=model.revision
        )
        for name in names
    ]


def to_input_row(split: Split) -> dict[str, Any]:
    """A split story as an input row (JSON, YAML) that renders to the same storyboard."""
    story = split.story
    row: dict[str, Any] = {
        "story_id": story.story_id,
        "panels": [_panel_row(panel, story) for panel in story.panels],
        "characters": [
            {key: value for key, value in dataclasses.asdict(character).items() if value}
            for character in story.characters
        ],
        "style": story.style,
        "negative_prompt": story.negative_prompt,
        "seed": story.seed,
        "duration_s": story.duration_s,
    }
    return {key: value for key, value in row.items() if value not in (None, "", [])}


def _panel_row(panel: PanelInput, story: Story) -> dict[str, Any]:
    markup = markup_of(panel, [character.name for character in story.characters])
    row: dict[str, Any] = {"text": panel.text, "beats": panel.beats, "shot": panel.shot.value}
    if markup.caption is None:
        row["caption"] = caption_of(panel, markup)
    if panel.control_image is not None:
        row["control_image"] = panel.control_image
    return row


def _panel(text: str, caption: str | None, names: list[str]) -> PanelInput:
    return PanelInput(
        text=text,
        caption=caption,
        shot=ShotKind.MOTION,
        beats=None,
        markup=parse_markup(text, names),
    )


def _panels(
    split: Split, written: list[_Written], negative_prompt: str, cut: tuple[str, ...]
) -> tuple[Panel, ...]:
    story = split.story
    beats = [(i, beat) for i, panel in enumerate(story.panels) for beat in range(panel.beats or 1)]
    return tuple(
        Panel(
            story_id=story.story_id,
            keyframe_index=keyframe_index,
            panel_index=panel_index,
            beat=beat,
            prompt=written[panel_index].prompt.text,
            negative_prompt=negative_prompt,
            caption=written[panel_index].caption,
            characters=written[panel_index].markup.names,
            seed=derive_seed(story.story_id, story.seed, "keyframe", panel_index, beat),
            splitter=split.splitter,
            warnings=(*split.warnings, *written[panel_index].prompt.warnings, *cut),
            control_image=story.panels[panel_index].control_image,
        )
        for keyframe_index, (panel_index, beat) in enumerate(beats)
    )


def _length_warnings(
    panels: tuple[PanelInput, ...],
    beats: tuple[int, ...],
    duration_s: float | None,
    timing: FilmTiming,
) -> tuple[str, ...]:
    if duration_s is None:
        return ()
    frames, asked = planned_frames(panels, beats, timing), timing.film_frames(duration_s)
    still = " and its closing still" if ends_still(panels, beats) else ""
    told = f"film: {frames / timing.fps:g} s{still} instead of the {duration_s:g} s asked for:"
    if frames < asked:
        return (f"{told} the panels state their beats",)
    if frames - asked >= timing.num_frames - 1:
        return (f"{told} no written panel is dropped",)
    return ()
