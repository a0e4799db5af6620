"""Prompts within the text encoder's limit.

What does not fit goes in this order, each only as far as needed:

1. the style, from its end;
2. the trailing parts of the descriptions ("a girl in a red coat" -> "a girl"), the last first;
3. the descriptions of further characters, the last first (the name stays);
4. the first character's description;
5. the panel's own words, from the end.

Of the negative prompt the style's share goes first, then the user's words from the end.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from storyreel.stages.output.records import PanelMarkup
from storyreel.stages.prompts.config import Style

_TAIL = re.compile(r"(?:,|;| and| with| in| wearing| who| that| on| under| holding)\s")
_POSSESSIVE = re.compile(r"['\u2019](?:s\b|(?=\s|$))")


class TokenBudget:
    """The token limit of a model's text encoders; a text must fit all of them."""

    def __init__(self, tokenizers: Iterable[PreTrainedTokenizerBase]) -> None:
        self._tokenizers = tuple(tokenizers)

    def fits(self, text: str) -> bool:
        """True if every encoder can read the whole text, including its special tokens."""
        return all(_count(t, text) <= t.model_max_length for t in self._tokenizers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt that fits: `text` with the style, `body` without, and what was cut for it."""

    text: str
    body: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A prompt before it is written out; `descriptions` of characters by name."""

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
    """Write the prompt of a panel, cut to the budget in this module's order.

    Args:
        markup: the panel's words.
        descriptions: of the story's characters, by name; empty: the name stands.
    """
    present = {name: _clean(descriptions[name]) for name in markup.names}
    draft = _Draft(markup=markup, descriptions=present, style=style)
    warnings: list[str] = []
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
    return Prompt(text=draft.text, body=draft.body, warnings=tuple(warnings))


def compose_negative(
    negative_prompt: str, style: Style, budget: TokenBudget
) -> tuple[str, tuple[str, ...]]:
    """The user's negative prompt, then the style's, cut to the budget; and what was cut."""
    text = ", ".join(filter(None, (negative_prompt.rstrip(" ,"), style.negative_prompt)))
    words = text.split()
    kept = _longest(words, budget)
    if kept == len(words):
        return text, ()
    lost = " ".join(words[kept:])
    text = " ".join(words[:kept]).rstrip(" ,")
    return text, (f"negative prompt: the text encoder's limit cut {lost!r}",)


def compose_motion(first: Prompt, second: Prompt, style: Style, budget: TokenBudget) -> str:
    """The text of a shot: "first, then second", or the second's prompt where that is too long."""
    if first.body == second.body:
        return second.text
    before, after = style.prompt.split("{prompt}")
    both = f"{before}{first.body}, then {second.body}{after}"
    return both if budget.fits(both) else second.text


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])


def _clean(description: str) -> str:
    return " ".join(description.split()).rstrip(" .")


def _body(markup: PanelMarkup, descriptions: Mapping[str, str]) -> str:
    """The words with each character's description in place of its first mention.

    "Ann's kite" keeps the name; a character mentioned only so is described in front.
    """
    words: list[str] = []
    described: set[str] = set()
    for index, part in enumerate(markup.parts):
        if part.character is None:
            words.append(part.text)
            continue
        description = descriptions.get(part.character, "")
        owns = _owns(markup, index)
        words.append(part.text if owns or part.character in described else description or part.text)
        described |= set() if owns else {part.character}
    waiting = [descriptions.get(name, "") for name in markup.names if name not in described]
    text = " ".join("".join(words).split()).strip(" ,")
    # A full stop tells the text encoder nothing, and the style follows it.
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
    """The first shorter draft that fits, else the shortest; and whether words are gone."""
    shorter = draft
    for shorter in shorten(draft):
        if budget.fits(shorter.text):
            break
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
    return replace(draft, max_words=_longest(draft.body.split(), budget))


def _longest(words: list[str], budget: TokenBudget) -> int:
    """The number of leading words that fit the budget."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if budget.fits(" ".join(words[:middle])):
            low = middle
        else:
            high = middle - 1
    return low
