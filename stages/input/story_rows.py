"""The fields of an input row, and its conversion to a story."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from storyreel.stages.errors import InputError
from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.limits import check_at_most, check_shape
from storyreel.stages.input.names.markup import NO_CHARACTER, parse_markup
from storyreel.stages.languages import LANGUAGES
from storyreel.stages.output.records import (
    STORY_ID,
    STORY_ID_RULE,
    Character,
    CharacterBox,
    PanelInput,
    PanelMarkup,
    ShotKind,
    Story,
)
from storyreel.stages.validation import explain, shorten


def to_story(
    row: Mapping[str, Any], source_file: str, source_row: int, limits: InputConfig
) -> Story:
    """Convert an input row to a story; a field that is null counts as missing.

    Args:
        row: fields as a format's reader yields them; see `StoryRow`.
        source_file: file of the row.
        source_row: number of the row in its file, from 1.
        limits: what a story may have at most.

    Raises:
        InputError: a field is not valid; the message names it, its value and what is allowed.
    """
    check_shape(row, limits)
    try:
        story_row = StoryRow.model_validate(_without_nulls(row))
    except ValidationError as error:
        raise InputError(explain(error, StoryRow)) from None
    story_row.check_sizes(limits)
    return story_row.to_story(source_file, source_row)


def valid_id(value: Any) -> str:
    """Return `value` as a string if it is a valid story id, else an empty one."""
    # Numbers are common ids in tables; a bool is an int in Python.
    text = "" if isinstance(value, bool) or not isinstance(value, str | int) else str(value)
    return text if STORY_ID.fullmatch(text) and ".." not in text else ""


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise InputError("must be a number")
    return value


def _checked_id(value: Any) -> str:
    if not valid_id(value):
        raise InputError(STORY_ID_RULE)
    return str(value)


def _split_lines(value: Any) -> Any:
    """Split a string into its lines: the released StoryDiffusion code takes one item per line."""
    if not isinstance(value, str):
        return value
    return [line.strip() for line in value.splitlines() if line.strip()]


def _as_panels(value: Any) -> Any:
    lines = _split_lines(value)
    if not isinstance(lines, list):
        return lines
    return [{"text": item} if isinstance(item, str) else _without_nulls(item) for item in lines]


def _as_characters(value: Any) -> Any:
    lines = _split_lines(value)
    if not isinstance(lines, list):
        return lines
    return [
        _character_fields(item) if isinstance(item, str) else _without_nulls(item) for item in lines
    ]


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError("must be text without lone surrogates") from None
    return value


def _known_language(value: str) -> str:
    code = value.strip().lower().partition("-")[0]
    if code not in LANGUAGES:
        raise InputError(f"must be one of {', '.join(sorted(LANGUAGES))}")
    return code


Text = Annotated[str, AfterValidator(_encodable)]
"""A string that can be encoded as UTF-8; JSON may escape lone surrogates, which cannot."""


def _without_nulls(item: Any) -> Any:
    # A table has a cell in every column, so a null stands for a field that the row does not have.
    if not isinstance(item, Mapping):
        return item
    return {key: value for key, value in item.items() if value is not None}


def _character_fields(line: str) -> dict[str, str]:
    """The fields of a character written as `[Name] description # comment`."""
    found = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*([^#]*)(?:#.*)?", line, re.DOTALL)
    if found is None:
        raise InputError("must be mappings with a name, or texts such as '[Name] description'")
    return {"name": found[1].strip(), "description": found[2].strip()}


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Share = Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, le=1)]
"""A share of a picture's width or height."""


class PanelRow(_Fields):
    """One panel of an input row."""

    text: Annotated[Text, Field(min_length=1)]
    caption: Text | None = None
    shot: ShotKind = ShotKind.MOTION
    beats: Annotated[int, BeforeValidator(_not_a_bool), Field(ge=1)] | None = None
    control_image: Text | None = None
    motion: Annotated[Text, Field(min_length=1)] | None = None
    motion_guidance: Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, le=30)] | None = (
        None
    )
    layout: dict[str, tuple[Share, Share, Share, Share]] = {}
    place: Annotated[Text, Field(min_length=1, max_length=100)] | None = None


class CharacterRow(_Fields):
    """One character of an input row."""

    name: Annotated[Text, Field(min_length=1, max_length=100, pattern=r"^[^\[\]\\\n]+$")]
    description: Text = ""
    reference_image: Text | None = None


class StoryRow(_Fields):
    """An input row: prose in `text`, or a written storyboard in `panels`."""

    story_id: Annotated[str, BeforeValidator(_checked_id)]
    text: Text | None = None
    panels: Annotated[list[PanelRow], BeforeValidator(_as_panels)] | None = None
    characters: Annotated[list[CharacterRow], BeforeValidator(_as_characters)] = []
    style: Text = ""
    negative_prompt: Text = ""
    seed: Annotated[int, BeforeValidator(_not_a_bool), Field(ge=0, lt=2**63)] = 0
    duration_s: Annotated[float, BeforeValidator(_not_a_bool), Field(gt=0, le=3600)] | None = None
    language: Annotated[str, AfterValidator(_known_language)] | None = None
    # Fields about the story that have no influence on its film.
    title: Any = None
    source: Any = None
    notes: Any = None

    def check_sizes(self, limits: InputConfig) -> None:
        """Check the length of each text and of all, and the number of keyframes.

        Raises:
            InputError: names the field, its size, what is allowed and the key that allows it.
        """
        num_chars = 0
        for field, text in self._texts():
            num_chars += len(text)
            if field != "text":
                check_at_most(field, len(text), "characters", limits, "max_field_chars")
        place = "text" if self.panels is None else "panels, characters and style"
        check_at_most(place, num_chars, "characters", limits, "max_story_chars")
        for index, panel in enumerate(self.panels or ()):
            check_at_most(f"panels[{index}].beats", panel.beats or 1, "beats", limits, "max_beats")
        num_keyframes = sum(panel.beats or 1 for panel in self.panels or ())
        check_at_most("panels", num_keyframes, "keyframes", limits, "max_keyframes")

    def _texts(self) -> Iterator[tuple[str, str]]:
        yield "text", self.text or ""
        yield "style", self.style
        yield "negative_prompt", self.negative_prompt
        for index, panel in enumerate(self.panels or ()):
            yield f"panels[{index}].text", panel.text
            yield f"panels[{index}].caption", panel.caption or ""
            yield f"panels[{index}].motion", panel.motion or ""
        for index, character in enumerate(self.characters):
            yield f"characters[{index}].description", character.description

    def to_story(self, source_file: str, source_row: int) -> Story:
        """Check the rules between fields, parse the panels, and return the story.

        Raises:
            InputError: a rule between fields is broken, or the markup of a text is wrong.
        """
        self._check_content()
        self._check_characters()
        return Story(
            story_id=self.story_id,
            source_file=source_file,
            source_row=source_row,
            text=self.text,
            panels=self._parsed_panels(),
            characters=tuple(Character(**dict(character)) for character in self.characters),
            style=self.style.strip(),
            negative_prompt=self.negative_prompt.strip(),
            seed=self.seed,
            duration_s=self.duration_s,
            language=self.language,
        )

    def _check_content(self) -> None:
        if self.text is None and self.panels is None:
            raise InputError("a story needs `text` (prose) or `panels` (a list); it has neither")
        if self.text is not None and self.panels is not None:
            raise InputError("a story has `text` (prose) or `panels` (a list), not both")
        if self.text is not None and not self.text.strip():
            raise InputError("text: is empty")
        if self.panels is not None and not self.panels:
            raise InputError("panels: is empty, a story needs at least one")

    def _check_characters(self) -> None:
        names = [character.name for character in self.characters]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise InputError(f"characters: {shorten(twice[0])} is defined twice")
        for name in names:
            if name == NO_CHARACTER or name != name.strip():
                raise InputError(
                    f"characters: {shorten(name)} is not allowed as a name: [NC] stands for a"
                    " picture without characters, and a name has no blanks around it"
                )

    def _parsed_panels(self) -> tuple[PanelInput, ...]:
        """The panels with their markup, so that no later stage parses their text again."""
        names = [character.name for character in self.characters]
        for index, panel in enumerate(self.panels or ()):
            last = index + 1 == len(self.panels or ())
            _check_motion(f"panels[{index}]", panel, names, leads_on=not last)
        return tuple(
            _panel_input(f"panels[{index}]", panel, names)
            for index, panel in enumerate(self.panels or ())
        )


def _check_motion(place: str, panel: PanelRow, names: list[str], *, leads_on: bool) -> None:
    stated = [field for field in ("motion", "motion_guidance") if getattr(panel, field) is not None]
    if stated and not (leads_on and panel.shot is ShotKind.MOTION):
        why = f"its shot is {panel.shot.value}" if leads_on else "no shot follows the last panel"
        raise InputError(f"{place}: {stated[0]}: must be left out, {why}")
    if panel.motion is None:
        return
    try:
        markup = parse_markup(panel.motion, names)
    except ValueError as error:
        raise InputError(f"{place}: motion: {shorten(panel.motion)} {error}") from None
    if markup.caption is not None:
        raise InputError(f"{place}: motion: {shorten(panel.motion)} must have no caption after #")


def _panel_input(place: str, panel: PanelRow, names: list[str]) -> PanelInput:
    markup = _parsed(place, panel, names)
    given = dict(panel) | {"layout": _layout(place, panel, markup), "markup": markup}
    return PanelInput(**given)


def _layout(place: str, panel: PanelRow, markup: PanelMarkup) -> tuple[CharacterBox, ...]:
    for name, (left, top, right, bottom) in panel.layout.items():
        if name not in markup.names:
            named = ", ".join(markup.names) or "nobody"
            raise InputError(
                f"{place}: layout: {shorten(name)} is not in the panel, which shows {named}"
            )
        if left >= right or top >= bottom:
            raise InputError(
                f"{place}: layout: {shorten(name)}: [{left}, {top}, {right}, {bottom}] is empty,"
                " a box is [left, top, right, bottom] in shares of the picture"
            )
    return tuple(
        CharacterBox(character=name, left=left, top=top, right=right, bottom=bottom)
        for name, (left, top, right, bottom) in panel.layout.items()
    )


def _parsed(place: str, panel: PanelRow, names: list[str]) -> PanelMarkup:
    try:
        markup = parse_markup(panel.text, names)
    except ValueError as error:
        raise InputError(f"{place}: {shorten(panel.text)} {error}") from None
    if markup.caption is not None and panel.caption is not None:
        raise InputError(
            f"{place}: has a caption in `caption` and another one after # in"
            f" `text` {shorten(panel.text)}; a number sign that begins no caption is written \\#"
        )
    return markup
