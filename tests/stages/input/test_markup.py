import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.names.markup import escape, markup_of, parse_markup
from storyreel.stages.input.story_rows import to_story
from storyreel.stages.output.records import PanelInput, ShotKind, TextPart

NAMES = ("Bob", "Alice", "Zo\u00eb")


def test_brackets_name_characters_and_the_caption_is_split_off() -> None:
    markup = parse_markup("[Bob] meets [Alice] and [Bob] smiles #Good morning!", NAMES)
    assert markup.names == ("Bob", "Alice")
    assert markup.plain == "Bob meets Alice and Bob smiles"
    assert markup.caption == "Good morning!"


def test_a_panel_names_any_number_of_characters() -> None:
    names = [f"P{index}" for index in range(30)]
    assert parse_markup(" ".join(f"[{name}]" for name in names), names).names == tuple(names)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a walk", None),
        ("a walk #", ""),
        ("a walk # one # two", "two"),
        ("door #5 opens # inside", "inside"),
        (r"door \#5 opens", None),
        ("a C#-minor chord", None),
        ("a walk # [Bob] goes", "Bob goes"),
    ],
)
def test_the_last_number_sign_after_a_blank_begins_the_caption(
    text: str, caption: str | None
) -> None:
    assert parse_markup(text, NAMES).caption == caption


def test_an_escaped_sign_stands_for_itself() -> None:
    assert parse_markup(r"door \#5 \[left\]", NAMES).plain == "door #5 [left]"


def test_a_defined_name_without_brackets_counts_as_a_whole_word_in_its_own_case() -> None:
    assert parse_markup("Bob runs", NAMES).parts[0] == TextPart(text="Bob", character="Bob")
    assert parse_markup("Zo\u00eb's kite", NAMES).names == ("Zo\u00eb",)
    assert parse_markup("Bobby and a bob", NAMES).names == ()


def test_no_character_means_that_plain_names_do_not_count() -> None:
    markup = parse_markup("[NC] the house where Bob was born", NAMES)
    assert markup.no_character
    assert markup.names == ()
    assert markup.plain == "the house where Bob was born"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[Bo] runs", r"\[Bo\].*\[Bob\], \[Alice\], \[Zo\u00eb\], \[NC\]"),
        ("[NC] [Bob] runs", "no character.*Bob"),
        ("# only a caption", "no words"),
        ("[NC]", "no words"),
        ("  ", "no words"),
    ],
)
def test_a_wrong_panel_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_markup(text, NAMES)


@given(st.text())
def test_escaped_text_is_only_words(text: str) -> None:
    try:
        markup = parse_markup(escape(text), ())
    except ValueError:
        assert not text.strip()
        return
    assert markup.caption is None
    assert markup.names == ()
    assert markup.plain == " ".join(text.split()).strip(" ,")


def test_an_accepted_panel_carries_its_markup() -> None:
    """Whoever parses the text again may read it in another way than the door did."""
    characters = [{"name": "Tom", "description": "a boy"}]
    row = {
        "story_id": "a",
        "panels": ["[Tom] runs # Run!", "[NC] a beach"],
        "characters": characters,
    }
    first, second = to_story(row, "a.jsonl", 1, InputConfig()).panels
    assert first.markup is not None
    assert (first.markup.names, first.markup.caption) == (("Tom",), "Run!")
    assert second.markup is not None
    assert second.markup.no_character


def test_a_panel_of_an_older_job_is_parsed_when_it_is_read() -> None:
    panel = PanelInput(text="[Tom] runs", caption=None, shot=ShotKind.MOTION, beats=None)
    assert markup_of(panel, ["Tom"]) == parse_markup("[Tom] runs", ["Tom"])
