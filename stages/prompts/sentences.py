"""Cuts prose into passages, one for each panel, between sentences and clauses.

Every word is kept, and no quotation is cut. Lengths are counted in words between blanks.
"""

import itertools
import re

import pysbd

from storyreel.stages.input.markup import NO_CHARACTER, says_nobody

# The end of a clause, if the next one has its own subject: elsewhere a cut could divide a phrase.
_CLAUSE_END = re.compile(
    r"(?:(?<=;)|(?<=,)(?= (?:and then|then|but|so|while|until)\b)"
    r"|(?<=,)(?= and (?:he|she|they|it)\b)|(?<= -)|(?<=[.!?]))\s+"
)
_OPEN_TO_CLOSE = {"\u201c": "\u201d", "\u00ab": "\u00bb", "\u201e": "\u201c"}
MAX_QUOTED_SENTENCES = 8
"""A quotation that is longer than this probably lacks its closing mark."""


def split_sentences(text: str, language: str) -> list[str]:
    """Split prose into sentences; a quotation stays whole, and a blank line always ends a sentence.

    Args:
        text: the prose.
        language: an ISO 639-1 code that pysbd supports.
    """
    segmenter = pysbd.Segmenter(language=language, clean=False)
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        sentences += _join_quotations(
            _cut_at_segments(words, segmenter.segment(words) if words else [])
        )
    return sentences


def split_clauses(sentence: str) -> tuple[str, str] | None:
    """Cut a sentence at the clause boundary nearest its middle; `None` if there is none."""
    cuts = [found for found in _CLAUSE_END.finditer(sentence) if _is_safe(sentence, found.start())]
    if not cuts:
        return None
    cut = min(cuts, key=lambda found: abs(found.start() - len(sentence) / 2))
    return sentence[: cut.start()], sentence[cut.end() :]


def split_long(sentences: list[str], max_words: int) -> list[str]:
    """Cut sentences of more than `max_words` words at ends of clauses, where they have any."""
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
    """Cut the longest sentences at ends of clauses until there are `count`, or none can be cut."""
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
    """Join each sentence of fewer than `min_words` words to the one before.

    The first sentence is joined to the one after it. A sentence with the tag [NC] is joined only
    to others with it, since one picture cannot both have characters and have none.
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
    """Join the shortest neighbours until at most `count` are left, if they can be joined.

    A sentence with the tag [NC] is joined only to others with it.
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
    """Return the number of words between blanks."""
    return len(text.split())


def _may_join(before: str, after: str) -> bool:
    """True if one panel can show both; a lone tag belongs to the next passage."""
    return says_nobody(before) == says_nobody(after) or before == f"[{NO_CHARACTER}]"


def _cut_at_segments(text: str, segments: list[str]) -> list[str]:
    """Cut `text` where the segments begin.

    The segments themselves are not used, since pysbd loses or changes characters in some texts.
    """
    starts, end = [0], 0
    for segment in segments:
        place = text.find(segment.strip(), end)
        if place >= 0:
            starts.append(place)
            end = place + len(segment.strip())
    bounds = sorted({*starts, len(text)})
    pieces = [text[a:b].strip() for a, b in itertools.pairwise(bounds)]
    return [piece for piece in pieces if piece]


def _join_quotations(sentences: list[str]) -> list[str]:
    """Join the sentences of one quotation, and the words that say who speaks ('..." she said.')."""
    joined: list[str] = []
    place = 0
    while place < len(sentences):
        end = _end_of_quotation(sentences, place)
        piece = " ".join(sentences[place:end])
        if joined and _continues_quotation(joined[-1], piece):
            joined[-1] = f"{joined[-1]} {piece}"
        else:
            joined.append(piece)
        place = end
    return joined


def _end_of_quotation(sentences: list[str], start: int) -> int:
    last = min(len(sentences), start + MAX_QUOTED_SENTENCES)
    for end in range(start + 1, last + 1):
        if not _has_open_quotation(" ".join(sentences[start:end])):
            return end
    return start + 1


def _continues_quotation(before: str, piece: str) -> bool:
    return before.endswith(('"', "\u201d", "\u00bb")) and piece[0].islower()


def _is_safe(sentence: str, place: int) -> bool:
    """True if a cut leaves three words or more on both sides and splits no quotation."""
    before, after = sentence[:place], sentence[place:]
    return min(count_words(before), count_words(after)) >= 3 and not _has_open_quotation(before)


def _has_open_quotation(text: str) -> bool:
    if text.count('"') % 2:
        return True
    waiting: list[str] = []
    for sign in text:
        if waiting and sign == waiting[-1]:
            waiting.pop()
        elif sign in _OPEN_TO_CLOSE:
            waiting.append(_OPEN_TO_CLOSE[sign])
    return bool(waiting)
