"""Splits stories into panels: the first half of the prompts stage.

Prose is cut into passages, one for each panel, and a chat model describes their pictures if one is
configured. A written storyboard has its panels already. For both, pronouns are replaced by the
characters that they stand for, and every panel gets its number of beats.
"""

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.limits import check_at_most
from storyreel.stages.input.names.markup import (
    caption_of,
    escape_caption_marks,
    escape_unknown_tags,
    markup_of,
    parse_markup,
)
from storyreel.stages.languages import detect_language
from storyreel.stages.models.prompt_words import plain_text
from storyreel.stages.output.records import Character, PanelInput, PanelMarkup, ShotKind, Story
from storyreel.stages.prompts.beats import (
    FilmTiming,
    PacedPanel,
    Panels,
    count_beats,
    planned_frames,
)
from storyreel.stages.prompts.cast.introductions import find_subjects
from storyreel.stages.prompts.cast.pronouns import Resolved, resolve
from storyreel.stages.prompts.config import ChatConfig, PromptsConfig
from storyreel.stages.prompts.narrative import narrative
from storyreel.stages.prompts.sentences import (
    merge_short,
    merge_to_count,
    split_long,
    split_sentences,
    split_to_count,
)

if TYPE_CHECKING:
    from storyreel.stages.prompts.chat import ChatDirector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A story as a written storyboard.

    Attributes:
        story: has panels and no prose; every panel states its characters, its caption and its
            number of beats.
        splitter: "written" (the user made the panels), "chat" (the chat model described them), or
            "rules", followed by the reason if the chat model failed.
        warnings: what the user may want to know about the split.
    """

    story: Story
    splitter: str
    warnings: tuple[str, ...]


class StorySplitter:
    """Splits stories; holds the chat model if one is configured.

    Args:
        config: lengths of panels and films, language, chat model.
        timing: frames of each kind of shot.
        limits: what a story may have at most.
    """

    def __init__(self, config: PromptsConfig, timing: FilmTiming, limits: InputConfig) -> None:
        self._config = config
        self._limits = limits
        self._timing = timing
        self._director = None if config.chat is None else _load_director(config.chat)

    def __call__(self, story: Story) -> Split:
        """Split a story.

        Raises:
            ValueError: the story's markup is wrong, a passage of its prose is too long, or it has
                too many keyframes.
        """
        splitter = "written"
        warnings: tuple[str, ...] = ()
        if story.text is not None:
            story, splitter, warnings = self._split_prose(story, story.text)
        resolved = resolve(story.panels, story.characters, self._language(story))
        panels = resolved.panels
        warnings += _open_pronouns(resolved)
        duration_s = self._duration_s(story)
        paced = self._paced(panels, [character.name for character in story.characters])
        beats = count_beats(paced, duration_s, self._timing)
        check_at_most("film", sum(beats), "keyframes", self._limits, "max_keyframes")
        warnings += _length_warnings(paced, beats, duration_s, self._timing)
        panels = tuple(
            dataclasses.replace(panel, beats=count)
            for panel, count in zip(panels, beats, strict=True)
        )
        return Split(
            story=dataclasses.replace(story, panels=panels), splitter=splitter, warnings=warnings
        )

    def _paced(self, panels: tuple[PanelInput, ...], names: list[str]) -> Panels:
        captions = (read_caption(panel, markup_of(panel, names)) for panel in panels)
        return tuple(
            PacedPanel.of(panel, caption, self._timing)
            for panel, caption in zip(panels, captions, strict=True)
        )

    def _language(self, story: Story) -> str:
        if story.language or not self._config.detect_language:
            return story.language or self._config.language
        text = story.text or " ".join(panel.text for panel in story.panels)
        return detect_language(text) or self._config.language

    def _duration_s(self, story: Story) -> float | None:
        return story.duration_s or self._config.duration_s

    def _split_prose(self, story: Story, text: str) -> tuple[Story, str, tuple[str, ...]]:
        text = escape_unknown_tags(narrative(text), [c.name for c in story.characters])
        language = self._language(story)
        found = () if story.characters or language != "en" else find_subjects(text)
        characters = story.characters or found
        names = [character.name for character in characters]
        passages = map(
            escape_caption_marks, self._passages(text, language, self._duration_s(story))
        )
        panels = []
        for index, passage in enumerate(passages):
            place = f"text: passage {index}"
            check_at_most(place, len(passage), "characters", self._limits, "max_field_chars")
            panels.append(_with_comma(_panel(passage, None, names), passage))
        story = dataclasses.replace(story, text=None, characters=characters, panels=tuple(panels))
        warnings = tuple(f"characters: found {_introduced(c)}" for c in found)
        if not found and language == "en":
            warnings += _unlisted(text, names)
        if self._director is None:
            return story, "rules", warnings
        story, splitter, more_warnings = _describe(story, self._director)
        return story, splitter, warnings + more_warnings

    def _passages(self, text: str, language: str, duration_s: float | None) -> list[str]:
        """Cut prose into one passage for each panel; a length asks for a number of panels."""
        sentences = split_sentences(text, language)
        sentences = merge_short(sentences, self._config.min_panel_words)
        sentences = split_long(sentences, self._config.max_panel_words)
        if duration_s is None:
            return sentences
        count = self._timing.keyframes_of_motion(duration_s)
        return split_to_count(merge_to_count(sentences, count), count)


def _with_comma(panel: PanelInput, passage: str) -> PanelInput:
    """The panel with the comma at which its sentence was cut; pictures need none, readers do."""
    if panel.markup is None or not passage.endswith(","):
        return panel
    return dataclasses.replace(panel, caption=f"{panel.markup.plain},")


def read_caption(panel: PanelInput, markup: PanelMarkup) -> str:
    """The caption of a panel as people read it: without the marks of a prompt."""
    return plain_text(caption_of(panel, markup))


def _unlisted(text: str, names: list[str]) -> tuple[str, ...]:
    """A warning that lists who acts under a name that the story's list does not have."""
    listed = " ".join(names).casefold()
    found = [c.name for c in find_subjects(text) if not c.name.startswith("the ")]
    unknown = [name for name in found if name.casefold() not in listed]
    return (f"characters: not in the list: {', '.join(unknown)}",) if unknown else ()


def _open_pronouns(resolved: Resolved) -> tuple[str, ...]:
    """A warning that lists the pronouns of which nobody knows whom they mean."""
    if not resolved.open_pronouns:
        return ()
    told = ", ".join(f"{word!r} in panel {index}" for index, word in resolved.open_pronouns[:5])
    more = len(resolved.open_pronouns) - 5
    return (f"characters: unclear: {told}{f' and {more} more' if more > 0 else ''}",)


def _load_director(config: ChatConfig) -> "ChatDirector":
    # Imports torch, which the rules do not need: plans and storyboards are made without it.
    from storyreel.stages.prompts.chat import ChatDirector  # noqa: PLC0415

    return ChatDirector(config)


def _describe(story: Story, director: "ChatDirector") -> tuple[Story, str, tuple[str, ...]]:
    """Let the chat model describe each panel; the passage remains its caption."""
    names = [character.name for character in story.characters]
    captions = [caption_of(panel, markup_of(panel, names)) for panel in story.panels]
    try:
        texts = director.describe(captions, story.characters)
    # An answer that cannot be used. Other exceptions mean that the model cannot run, and the pool
    # counts them as failed attempts.
    except ValueError as error:
        reason = f"chat failed: {type(error).__name__}: {error}"[:300]
        logger.warning("story %s: %s; split by the rules instead", story.story_id, reason)
        return story, f"rules ({reason})", (f"panels: {reason}",)
    panels = tuple(
        _panel(text, caption, names) for text, caption in zip(texts, captions, strict=True)
    )
    return dataclasses.replace(story, panels=panels), "chat", ()


def _panel(text: str, caption: str | None, names: list[str]) -> PanelInput:
    return PanelInput(
        text=text,
        caption=caption,
        shot=ShotKind.MOTION,
        beats=None,
        markup=parse_markup(text, names),
    )


def _length_warnings(
    panels: Panels, beats: tuple[int, ...], duration_s: float | None, timing: FilmTiming
) -> tuple[str, ...]:
    """A warning if the panels make the film shorter, or by a shot longer, than it should be."""
    if duration_s is None:
        return ()
    frames, asked = planned_frames(panels, beats, timing), timing.film_frames(duration_s)
    length = f"film: {frames / timing.fps:g} s and its closing still instead of the"
    length = f"{length} {duration_s:g} s asked for:"
    if frames < asked:
        return (f"{length} the panels state their beats",)
    if frames - asked >= timing.num_frames - 1:
        return (f"{length} no written panel is dropped, and each caption can be read",)
    return ()


def _introduced(character: Character) -> str:
    """A character as a report names it: by its name, and as what it was introduced."""
    described = f", {character.description!r}" if character.description else ""
    return f"{character.name!r}{described}"
