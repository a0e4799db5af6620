"""Writes prompts that fit the limit of the text encoders.

Prompts may have several chunks of the encoders' length. One that is longer still is shortened in
this order, each step only as far as needed:

1. the style, from its end;
2. the trailing parts of the descriptions ("a girl in a red coat" -> "a girl"), the last first;
3. the descriptions of further characters, the last first (the name stays);
4. the first character's description;
5. the panel's own words, from the end.

A negative prompt loses the style's words first, then the user's words, both from the end.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from storyreel.stages.models.prompt_words import plain_text, unknown_marks, without_marks
from storyreel.stages.output.records import PanelMarkup
from storyreel.stages.prompts.config import Style
from storyreel.stages.prompts.token_budget import TokenBudget

MAX_UNKNOWN = 8
"""Words that a warning lists."""

_TAIL = re.compile(r"(?:,|;| and| with| in| wearing| who| that| on| under| holding)\s")
_POSSESSIVE = re.compile(r"['\u2019](?:s\b|(?=\s|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt that fits: `text` with the style, `body` without, and what was cut for it."""

    text: str
    body: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A prompt that may still be too long.

    Attributes:
        markup: the panel's words.
        descriptions: of the panel's characters, by name; without one, the name stands.
        style: around the words.
        max_words: words that remain of the body; `None` for all.
    """

    markup: PanelMarkup
    descriptions: Mapping[str, str]
    style: Style
    max_words: int | None = None

    @property
    def body(self) -> str:
        words = _body(self.markup, self.descriptions)
        if self.max_words is None:
            return words
        return " ".join(words.split()[: self.max_words]).rstrip(" ,;:-")

    @property
    def text(self) -> str:
        before, after = self.style.prompt.split("{prompt}")
        return f"{before}{self.body}{after}"


def compose(
    markup: PanelMarkup, descriptions: Mapping[str, str], style: Style, budget: TokenBudget
) -> Prompt:
    """Write the prompt of a panel, shortened in this module's order if it is too long.

    Args:
        markup: the panel's words.
        descriptions: of the story's characters, by name; if one is empty, the name stands.
        style: template around the words.
        budget: the limit.
    """
    present = {name: _clean(descriptions[name]) for name in markup.names}
    draft = _Draft(markup=markup, descriptions=present, style=style)
    raw = " ".join([markup.plain, *(descriptions[name] for name in markup.names)])
    warnings = [f"prompt: {mark!r} is no word and is left out" for mark in unknown_marks(raw)]
    steps: tuple[tuple[str, Callable[[_Draft], Iterator[_Draft]]], ...] = (
        ("the style's end", _shorter_styles),
        ("parts of descriptions", _shorter_descriptions),
        ("descriptions of further characters", _fewer_descriptions),
        ("the first character's description", _no_descriptions),
    )
    for what, shorten in steps:
        if budget.fits(draft.text):
            break
        draft, cut = _shorten(draft, shorten, budget)
        warnings += [f"prompt: the text encoder's limit cut {what}"] if cut else []
    if not budget.fits(draft.text):
        draft = _cut_words(draft, budget)
        lost = " ".join(_body(markup, draft.descriptions).split()[draft.max_words :])
        warnings.append(f"prompt: the text encoder's limit cut the panel's words {lost!r}")
    if unknown := budget.unknown_words(plain_text(draft.body)):
        shown = ", ".join(map(repr, unknown[:MAX_UNKNOWN]))
        warnings.append(f"prompt: the model was not trained with {shown}")
    return Prompt(text=draft.text, body=draft.body, warnings=tuple(warnings))


def compose_negative(
    negative_prompt: str, style: Style, budget: TokenBudget
) -> tuple[str, tuple[str, ...]]:
    """Join the negative prompts of the user and of the style, and shorten them if needed.

    Returns:
        The negative prompt, and a warning if words were cut.
    """
    text = ", ".join(filter(None, (negative_prompt.rstrip(" ,"), style.negative_prompt)))
    words = text.split()
    kept = budget.num_fitting(words)
    if kept == len(words):
        return text, ()
    lost = " ".join(words[kept:])
    text = " ".join(words[:kept]).rstrip(" ,")
    return text, (f"negative prompt: the text encoder's limit cut {lost!r}",)


def compose_motion(first: Prompt, second: Prompt, style: Style, budget: TokenBudget) -> str:
    """Write the text of a shot: "first, then second", or the prompt of the second if too long.

    Args:
        first: of the panel that the shot leaves.
        second: what happens on the way, if the panel says so, else the next panel's.
        style: template around the words.
        budget: the limit.
    """
    if first.body == second.body:
        return second.text
    before, after = style.prompt.split("{prompt}")
    both = f"{before}{first.body}, then {second.body}{after}"
    return both if budget.fits_one(both) else second.text


def _clean(description: str) -> str:
    plain = " ".join(without_marks(description).split())
    return plain.rstrip(" .") if plain == description else plain.rstrip(" .,")


def _body(markup: PanelMarkup, descriptions: Mapping[str, str]) -> str:
    """Return the words with each character's description in place of its first mention.

    A possessive keeps the name, as "a girl in a red coat's kite" would describe the kite. A
    character with possessives only is described in front: "a girl in a red coat, Ann's kite flies".
    """
    words: list[str] = []
    described: set[str] = set()
    for index, part in enumerate(markup.parts):
        if part.character is None:
            words.append(part.text)
            continue
        description = descriptions.get(part.character, "")
        possessive = _owns(markup, index)
        words.append(
            part.text if possessive or part.character in described else description or part.text
        )
        described |= set() if possessive else {part.character}
    waiting = [descriptions.get(name, "") for name in markup.names if name not in described]
    text = " ".join(without_marks("".join(words)).split()).strip(" ,")
    # The style follows after a comma, and a full stop means nothing to the text encoder.
    text = text[:-1] if text.endswith(".") and not text.endswith("..") else text
    return ", ".join([*filter(None, waiting), text])


def _owns(markup: PanelMarkup, index: int) -> bool:
    after = markup.parts[index + 1] if index + 1 < len(markup.parts) else None
    if after is None or after.character is not None:
        return False
    return _POSSESSIVE.match(after.text) is not None


def _shorten(
    draft: _Draft, shorten: Callable[[_Draft], Iterator[_Draft]], budget: TokenBudget
) -> tuple[_Draft, bool]:
    """Return the first shorter draft that fits, else the shortest, and True if words are lost."""
    # Each is shorter than the one before, so that few of them have to be counted.
    drafts = [draft, *shorten(draft)]
    first = bisect_left(drafts, 1, key=lambda shorter: int(budget.fits(shorter.text)))
    shorter = drafts[min(first, len(drafts) - 1)]
    return shorter, shorter.text != draft.text


def _shorter_styles(draft: _Draft) -> Iterator[_Draft]:
    before, after = draft.style.prompt.split("{prompt}")
    words = after.split(" ")
    for count in range(len(words) - 1, -1, -1):
        kept = " ".join(words[:count]).rstrip(" ,")
        yield replace(draft, style=Style(prompt=f"{before}{{prompt}}{kept}"))
    if before:
        yield replace(draft, style=Style(prompt="{prompt}"))


def _shorter_descriptions(draft: _Draft) -> Iterator[_Draft]:
    for name in reversed(list(draft.descriptions)):
        while (shorter := _without_tail(draft.descriptions[name])) is not None:
            draft = replace(draft, descriptions={**draft.descriptions, name: shorter})
            yield draft


def _without_tail(description: str) -> str | None:
    cuts = [found.start() for found in _TAIL.finditer(description) if found.start()]
    return description[: cuts[-1]] if cuts else None


def _fewer_descriptions(draft: _Draft) -> Iterator[_Draft]:
    for name in reversed(list(draft.descriptions)[1:]):
        draft = replace(draft, descriptions={**draft.descriptions, name: ""})
        yield draft


def _no_descriptions(draft: _Draft) -> Iterator[_Draft]:
    if any(draft.descriptions.values()):
        yield replace(draft, descriptions={})


def _cut_words(draft: _Draft, budget: TokenBudget) -> _Draft:
    return replace(draft, max_words=budget.num_fitting(draft.body.split()))
