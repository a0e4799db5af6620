"""Cuts prose into passages, one for each panel, between sentences and clauses.

Every word is kept, and no quotation is cut. Lengths are counted in words between blanks.
"""

import heapq
import itertools
import re
from collections.abc import Iterator

import pysbd

from storyreel.stages.input.names.markup import NO_CHARACTER, says_nobody
from storyreel.stages.input.names.naming import is_spaced, num_unspaced

# The end of a clause, if the next one has its own subject: elsewhere a cut could divide a phrase.
_CLAUSE_END = re.compile(
    r"(?:(?<=;)|(?<=,)(?= (?:and then|then|but|so|while|until)\b)"
    r"|(?<=,)(?= and (?:he|she|they|it)\b)|(?<= -)|(?<=[.!?]))\s+"
)
# Where a sentence that is too long is cut if it has no such end.
_PAUSE = re.compile(
    r"(?<=,)\s+(?![\"\u201c])|\s+(?=(?:and|or|but|which|who|where|when|because|although|until|before|after|with)\b)"
    r"|(?<=[\uff0c\uff1b\u3001])"
)
_OPEN_TO_CLOSE = {"\u201c": "\u201d", "\u00ab": "\u00bb", "\u201e": "\u201c"}
MAX_QUOTED_SENTENCES = 8
"""A quotation that is longer than this probably lacks its closing mark."""
SEGMENTED_CHARS = 2_000
"""Characters of a paragraph that pysbd sees at a time."""


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
        bounds = sorted({*_sentence_starts(words, segmenter), len(words)})
        pieces = (words[start:end].strip() for start, end in itertools.pairwise(bounds))
        sentences += _join_quotations([piece for piece in pieces if piece])
    return sentences


def split_clauses(sentence: str, ends: re.Pattern[str] = _CLAUSE_END) -> tuple[str, str] | None:
    """Cut a sentence at the clause boundary nearest its middle; `None` if there is none."""
    cuts = list(ends.finditer(sentence))
    safe = _safe_places(sentence, {found.start() for found in cuts}) if cuts else set()
    cuts = [found for found in cuts if found.start() in safe]
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
        is_long = count_words(sentence) > max_words
        parts = split_clauses(sentence) or split_clauses(sentence, _PAUSE) if is_long else None
        if parts is None:
            pieces.append(sentence)
        else:
            waiting += parts[::-1]
    return pieces


def split_to_count(sentences: list[str], count: int) -> list[str]:
    """Cut the longest sentences at ends of clauses until there are `count`, or none can be cut."""
    # By place: the number of the sentence, and where the piece begins in it.
    pieces = {(number, 0): sentence for number, sentence in enumerate(sentences)}
    longest_first = [(-len(sentence), place) for place, sentence in pieces.items()]
    heapq.heapify(longest_first)
    while longest_first and len(pieces) < count:
        _, (number, start) = heapq.heappop(longest_first)
        parts = split_clauses(pieces[number, start])
        if parts is None:
            continue
        places = (number, start), (number, start + len(parts[0]))
        for place, part in zip(places, parts, strict=True):
            pieces[place] = part
            heapq.heappush(longest_first, (-len(part), place))
    return [pieces[place] for place in sorted(pieces)]


def merge_short(sentences: list[str], min_words: int) -> list[str]:
    """Join each sentence of fewer than `min_words` words to the one before.

    The first sentence is joined to the one after it. A sentence with the tag [NC] is joined only
    to others with it, since one picture cannot both have characters and have none.
    """
    merged: list[_Passage] = []
    for passage in map(_Passage, sentences):
        before = merged[-1] if merged else passage
        shorter = min(before.num_words, passage.num_words)
        if merged and shorter < min_words and _may_join(before, passage):
            before.append(passage)
        else:
            merged.append(passage)
    return [passage.text for passage in merged]


def merge_to_count(sentences: list[str], count: int) -> list[str]:
    """Join the shortest neighbours until at most `count` are left, if they can be joined.

    A sentence with the tag [NC] is joined only to others with it.
    """
    # A chain of passages by number; `after` gives the next one of those that are left.
    passages = dict(enumerate(map(_Passage, sentences)))
    after = {number: number + 1 for number in passages}
    before = {number: number - 1 for number in passages}
    shortest_first = [
        pair for place in passages if (pair := _pair(passages, place, place + 1)) is not None
    ]
    heapq.heapify(shortest_first)
    while shortest_first and len(passages) > max(1, count):
        _, first, second, sizes = heapq.heappop(shortest_first)
        if sizes != _sizes(passages, first, second):  # one of them has changed since
            continue
        passages[first].append(passages.pop(second))
        after[first] = after.pop(second)
        before[after[first]] = first
        for pair in (
            _pair(passages, before[first], first),
            _pair(passages, first, after[first]),
        ):
            if pair is not None:
                heapq.heappush(shortest_first, pair)
    return [passage.text for passage in passages.values()]


class _Passage:
    """Sentences that are joined with blanks, once: a long text would be copied at each join."""

    def __init__(self, sentence: str) -> None:
        self._sentences = [sentence]
        self.size = len(sentence)
        self.num_words = count_words(sentence)
        self.says_nobody = says_nobody(sentence)

    @property
    def text(self) -> str:
        # Scripts without blanks between words have none between sentences.
        spaced = all(map(is_spaced, self._sentences))
        return (" " if spaced else "").join(self._sentences)

    @property
    def is_lone_tag(self) -> bool:
        return self._sentences == [f"[{NO_CHARACTER}]"]

    def append(self, other: "_Passage") -> None:
        self._sentences += other._sentences
        self.size += 1 + other.size
        self.num_words += other.num_words
        self.says_nobody |= other.says_nobody


_Pair = tuple[int, int, int, tuple[int, int]]


def _pair(passages: dict[int, _Passage], first: int, second: int) -> _Pair | None:
    """Two neighbours as an entry of a heap, if they are there and can be joined."""
    if first not in passages or second not in passages:
        return None
    if passages[first].says_nobody != passages[second].says_nobody:
        return None
    sizes = passages[first].size, passages[second].size
    return sum(sizes), first, second, sizes


def _sizes(passages: dict[int, _Passage], *numbers: int) -> tuple[int, ...]:
    return tuple(passages[number].size for number in numbers if number in passages)


def count_words(text: str) -> int:
    """Return the number of words between blanks; of scripts without blanks, two letters are one."""
    return len(text.split()) + num_unspaced(text) // 2


def _may_join(before: _Passage, after: _Passage) -> bool:
    """True if one panel can show both; a lone tag belongs to the next passage."""
    return before.says_nobody == after.says_nobody or before.is_lone_tag


def _sentence_starts(words: str, segmenter: pysbd.Segmenter) -> Iterator[int]:
    """The places where sentences of a paragraph begin.

    pysbd takes time that grows with the square of a text's length. So it sees a long paragraph in
    pieces, each from the last sentence of the piece before, which may go on behind that.
    """
    begin = 0
    yield begin
    while begin < len(words):
        piece = words[begin : begin + SEGMENTED_CHARS]
        starts = _places_of(piece, segmenter.segment(piece))
        yield from (begin + start for start in starts)
        ends_here = begin + len(piece) == len(words)
        begin += len(piece) if ends_here else max(starts, default=_last_word(piece))


def _last_word(piece: str) -> int:
    """Where the last word of a piece begins that may be cut."""
    return piece.rfind(" ") + 1 or len(piece)


def _places_of(text: str, segments: list[str]) -> list[int]:
    """Where the segments begin in `text`, but for the first.

    The segments themselves are not used, since pysbd loses or changes characters in some texts.
    """
    starts, end = [], 0
    for segment in segments:
        place = text.find(segment.strip(), end)
        if place >= 0:
            starts.append(place)
            end = place + len(segment.strip())
    return [start for start in starts if start]


def _join_quotations(sentences: list[str]) -> list[str]:
    """Join the sentences of one quotation, and the words that say who speaks ('..." she said.')."""
    joined: list[list[str]] = []
    place = 0
    while place < len(sentences):
        end = _end_of_quotation(sentences, place)
        pieces = sentences[place:end]
        if joined and _continues_quotation(joined[-1][-1], pieces[0]):
            joined[-1] += pieces
        else:
            joined.append(pieces)
        place = end
    return [" ".join(pieces) for pieces in joined]


def _end_of_quotation(sentences: list[str], start: int) -> int:
    last = min(len(sentences), start + MAX_QUOTED_SENTENCES)
    for end in range(start + 1, last + 1):
        if not _has_open_quotation(" ".join(sentences[start:end])):
            return end
    return start + 1


def _continues_quotation(before: str, piece: str) -> bool:
    """True if a piece says who has spoken; also where no marks stand ("Where to? asked Ann.")."""
    return before.endswith(('"', "\u201d", "\u00bb", "?", "!")) and piece[0].islower()


def _safe_places(sentence: str, places: set[int]) -> set[int]:
    """The places where a cut leaves three words or more on both sides and splits no quotation."""
    words = list(re.finditer(r"\S+", sentence))
    if len(words) < 6:
        return set()
    first, last = words[2].end(), words[-3].start()
    inside = {place for place in places if first <= place <= last}
    return inside - _quoted_places(sentence, inside)


def _has_open_quotation(text: str) -> bool:
    return bool(_quoted_places(text, {len(text)}))


def _quoted_places(text: str, places: set[int]) -> set[int]:
    """Those of the places before which a quotation begins that has not ended there."""
    quoted: set[int] = set()
    waiting: list[str] = []
    is_quoted = False
    for place, sign in enumerate((*text, "")):
        if place in places and (is_quoted or waiting):
            quoted.add(place)
        if sign == '"':
            is_quoted = not is_quoted
        elif waiting and sign == waiting[-1]:
            waiting.pop()
        elif sign in _OPEN_TO_CLOSE:
            waiting.append(_OPEN_TO_CLOSE[sign])
    return quoted
