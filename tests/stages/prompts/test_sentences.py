from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.prompts.sentences import (
    merge_short,
    merge_to_count,
    split_clauses,
    split_long,
    split_sentences,
    split_to_count,
)

PROSE = st.text(alphabet="ab AB.!?\"',;\u201c\u201d\n", max_size=200)


def words(text: str) -> str:
    return "".join(text.split())


@given(PROSE)
def test_no_word_is_lost_or_invented(text: str) -> None:
    sentences = split_sentences(text, "en")
    assert words(" ".join(sentences)) == words(text)


@given(PROSE, st.integers(1, 12))
def test_no_word_is_lost_when_sentences_are_cut_and_joined(text: str, count: int) -> None:
    pieces = merge_short(split_sentences(text, "en"), 3)
    pieces = split_to_count(merge_to_count(split_long(pieces, 5), count), count)
    assert words(" ".join(pieces)) == words(text)
    assert len(pieces) <= max(1, count)


def test_abbreviations_do_not_end_a_sentence() -> None:
    assert split_sentences("Mr. Fox ran home. He was late.", "en") == [
        "Mr. Fox ran home.",
        "He was late.",
    ]


def test_a_quotation_and_its_speaker_stay_whole() -> None:
    text = (
        '"Run! Run as fast as you can!" she said. He ran. \u201cStop. Wait for me.\u201d They did.'
    )
    assert split_sentences(text, "en") == [
        '"Run! Run as fast as you can!" she said.',
        "He ran.",
        "\u201cStop. Wait for me.\u201d",
        "They did.",
    ]


def test_a_quotation_that_never_ends_does_not_swallow_the_story() -> None:
    text = 'He said "no. ' + "He walked on. " * 20
    assert len(split_sentences(text, "en")) > 10


def test_a_sentence_is_cut_where_a_clause_ends_and_never_inside_a_quotation() -> None:
    assert split_clauses("The fox ran over the hill, and then he slept in the shade.") == (
        "The fox ran over the hill,",
        "and then he slept in the shade.",
    )
    assert split_clauses('"I will run over the hill; you will sleep in the shade."') is None
    assert split_clauses("bread and butter, jam and honey") is None


def test_the_shortest_neighbours_are_joined_first() -> None:
    assert merge_to_count(["a" * 30, "b", "c", "d" * 30], 3) == ["a" * 30, "b c", "d" * 30]


def test_a_picture_of_nobody_is_joined_with_its_like_only() -> None:
    pieces = ["[NC] a", "b", "[NC] c", "[NC] d", "e", "f"]
    assert merge_short(pieces, 9) == ["[NC] a", "b", "[NC] c [NC] d", "e f"]
    assert merge_to_count(pieces, 1) == ["[NC] a", "b", "[NC] c [NC] d", "e f"]


def test_a_tag_that_stands_alone_belongs_to_what_follows() -> None:
    assert merge_short(["Ann runs.", "[NC]", "A house."], 2) == ["Ann runs.", "[NC] A house."]


def test_other_languages_have_their_own_sentence_ends() -> None:
    assert (
        len(split_sentences("\u96ea\u304c\u964d\u308b\u3002\u732b\u304c\u5bdd\u308b\u3002", "ja"))
        == 2
    )
