"""Prose to pieces, one for each panel: cut between sentences and clauses, every word kept."""

import itertools
import re

import pysbd

from storyreel.stages.input.markup import NO_CHARACTER, says_nobody

# A new clause with its own subject; before anything else a cut would tear a phrase.
_CLAUSE_END = re.compile(
    r"(?:(?<=;)|(?<=,)(?= (?:and then|then|but|so|while|until)\b)"
    r"|(?<=,)(?= and (?:he|she|they|it)\b)|(?<= -)|(?<=[.!?]))\s+"
)
_OPEN_TO_CLOSE = {"\u201c": "\u201d", "\u00ab": "\u00bb", "\u201e": "\u201c"}
MAX_QUOTED_SENTENCES = 8
"""A quotation that has not ended by then has lost its closing mark."""


def split_sentences(text: str, language: str) -> list[str]:
    """The sentences of a prose text in order; a quotation stays whole, blank lines always cut."""
    segmenter = pysbd.Segmenter(language=language, clean=False)
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        sentences += _whole_quotations(_cut(words, segmenter.segment(words) if words else []))
    return sentences


def split_clauses(sentence: str) -> tuple[str, str] | None:
    """Cut a sentence at the clause boundary nearest its middle; `None` if there is none."""
    cuts = [found for found in _CLAUSE_END.finditer(sentence) if _is_safe(sentence, found.start())]
    if not cuts:
        return None
    cut = min(cuts, key=lambda found: abs(found.start() - len(sentence) / 2))
    return sentence[: cut.start()], sentence[cut.end() :]


def split_long(sentences: list[str], max_words: int) -> list[str]:
    """Cut sentences of more than `max_words` words where clauses end, if they can be cut."""
    pieces: list[str] = []
    waiting = sentences[::-1]
    while waiting:
        sentence = waiting.pop()
        parts = split_clauses(sentence) if count_words(sentence) > max_words else None
        if parts is None:
            pieces.append(sentence)
        else:
            waiting += parts[::-1]
    return pieces


def split_to_count(sentences: list[str], count: int) -> list[str]:
    """Cut the longest sentences at clauses until there are `count`, or none can be cut."""
    pieces = list(sentences)
    whole: set[str] = set()
    while len(pieces) < count and len(whole) < len(set(pieces)):
        longest = max((piece for piece in pieces if piece not in whole), key=len)
        parts = split_clauses(longest)
        if parts is None:
            whole.add(longest)
            continue
        place = pieces.index(longest)
        pieces[place : place + 1] = parts
    return pieces


def merge_short(sentences: list[str], min_words: int) -> list[str]:
    """Join sentences of fewer than `min_words` words to the one before (the first: after).

    A sentence about nobody is joined only with its like.
    """
    merged: list[str] = []
    for sentence in sentences:
        shorter = min(map(count_words, (*merged[-1:], sentence)))
        if merged and shorter < min_words and _may_join(merged[-1], sentence):
            merged[-1] = f"{merged[-1]} {sentence}"
        else:
            merged.append(sentence)
    return merged


def merge_to_count(sentences: list[str], count: int) -> list[str]:
    """Join the shortest neighbours until no more than `count` are left, if they can be joined.

    A sentence about nobody is joined only with its like.
    """
    pieces = list(sentences)
    nobody = [says_nobody(piece) for piece in pieces]
    while len(pieces) > max(1, count):
        lengths = [len(a) + len(b) for a, b in itertools.pairwise(pieces)]
        places = [place for place in range(len(lengths)) if nobody[place] == nobody[place + 1]]
        if not places:
            break
        place = min(places, key=lengths.__getitem__)
        pieces[place : place + 2] = [f"{pieces[place]} {pieces[place + 1]}"]
        del nobody[place]
    return pieces


def count_words(text: str) -> int:
    """Words between blanks."""
    return len(text.split())


def _may_join(before: str, after: str) -> bool:
    """True if one panel can show both; a lone tag belongs to the next passage."""
    return says_nobody(before) == says_nobody(after) or before == f"[{NO_CHARACTER}]"


def _cut(text: str, segments: list[str]) -> list[str]:
    """`text` cut where the segments start: what a segmenter lost or changed is still there."""
    starts, end = [0], 0
    for segment in segments:
        place = text.find(segment.strip(), end)
        if place >= 0:
            starts.append(place)
            end = place + len(segment.strip())
    bounds = sorted({*starts, len(text)})
    pieces = [text[a:b].strip() for a, b in itertools.pairwise(bounds)]
    return [piece for piece in pieces if piece]


def _whole_quotations(sentences: list[str]) -> list[str]:
    """Join what lies between the marks of one quotation, and its tag ('..." she said.')."""
    joined: list[str] = []
    place = 0
    while place < len(sentences):
        end = _end_of_quotation(sentences, place)
        piece = " ".join(sentences[place:end])
        if joined and _goes_on(joined[-1], piece):
            joined[-1] = f"{joined[-1]} {piece}"
        else:
            joined.append(piece)
        place = end
    return joined


def _end_of_quotation(sentences: list[str], start: int) -> int:
    last = min(len(sentences), start + MAX_QUOTED_SENTENCES)
    for end in range(start + 1, last + 1):
        if not _open_quotation(" ".join(sentences[start:end])):
            return end
    return start + 1


def _goes_on(before: str, piece: str) -> bool:
    return before.endswith(('"', "\u201d", "\u00bb")) and piece[0].islower()


def _is_safe(sentence: str, place: int) -> bool:
    """True if a cut leaves three words or more on both sides and splits no quotation."""
    before, after = sentence[:place], sentence[place:]
    return min(count_words(before), count_words(after)) >= 3 and not _open_quotation(before)


def _open_quotation(text: str) -> bool:
    if text.count('"') % 2:
        return True
    waiting: list[str] = []
    for sign in text:
        if waiting and sign == waiting[-1]:
            waiting.pop()
        elif sign in _OPEN_TO_CLOSE:
            waiting.append(_OPEN_TO_CLOSE[sign])
    return bool(waiting)
