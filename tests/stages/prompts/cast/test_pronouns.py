from hypothesis import given
from hypothesis import strategies as st

from storyreel.stages.input.names.markup import parse_markup
from storyreel.stages.output.records import Character
from storyreel.stages.prompts.cast.pronouns import resolve_pronouns
from tests.stages.prompts.builders import character, panel

ANN = character("Ann", "a girl in a red coat")
TOM = character("Tom", "a boy with a kite")
REX = character("Rex", "a dog")


def carried(*texts: str, characters: tuple[Character, ...] = (ANN, TOM, REX)) -> list[str]:
    return [p.text for p in resolve_pronouns(tuple(panel(text) for text in texts), characters)]


def test_a_pronoun_goes_on_with_the_last_character_it_fits() -> None:
    assert carried("Ann runs.", "Tom waves.", "Then she sits.", "He sits.", "It barks.") == [
        "Ann runs.", "Tom waves.", "Then [Ann] sits.", "[Tom] sits.", "It barks.",
    ]  # fmt: skip


def test_a_possessive_puts_its_owner_in_the_picture() -> None:
    assert carried("Ann runs.", "The wind takes her hat.") == [
        "Ann runs.",
        "[Ann], the wind takes her hat.",
    ]


def test_they_are_the_two_that_were_named_together() -> None:
    assert carried("Ann meets Tom.", "Rex barks.", "They walk home.")[2] == (
        "[Ann] and [Tom] walk home."
    )


def test_they_are_not_one() -> None:
    assert carried("Rex barks.", "They sleep.")[1] == "They sleep."


def test_it_is_an_animal_but_not_the_weather() -> None:
    assert carried("Rex runs.", "It sleeps.", "It was raining.")[1:] == [
        "[Rex] sleeps.",
        "It was raining.",
    ]


def test_nobody_enters_a_panel_for_no_character_or_by_a_word_in_a_quotation() -> None:
    assert carried("Ann runs.", "[NC] she left the beach")[1] == "[NC] she left the beach"
    assert carried("Ann runs.", '"Where is she?"')[1] == '"Where is she?"'


def test_the_caption_keeps_the_words_of_the_user() -> None:
    panels = resolve_pronouns((panel("Ann runs."), panel("She sits. # A rest")), (ANN,))
    assert (panels[1].text, panels[1].caption) == ("[Ann] sits.", "A rest")
    panels = resolve_pronouns((panel("Ann runs."), panel("She sits.")), (ANN,))
    assert panels[1].caption == "She sits."


def test_the_only_character_named_nowhere_is_in_every_panel() -> None:
    assert carried("playing with a ball", "[NC] a street", characters=(REX,)) == [
        "[Rex], playing with a ball",
        "[NC] a street",
    ]


def test_resolving_twice_changes_nothing() -> None:
    once = resolve_pronouns((panel("Ann runs."), panel("She sits. # A rest")), (ANN,))
    assert resolve_pronouns(once, (ANN,)) == once


def test_a_pronoun_is_replaced_where_it_stands() -> None:
    fox = character("fox", "a red fox")
    panels = resolve_pronouns((panel("Ann runs."), panel("Fox sees her.")), (ANN, fox))
    assert panels[1].text == "Fox sees [Ann]."
    assert panels[1].markup is not None
    assert panels[1].markup.names == ("Ann",)


WORDS = ["Ann", "fox", "Fox", "she", "They", "it", "her", "runs.", "R2#", "\\#", "\\[", '"Oh,"']
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_the_text_and_the_markup_of_a_panel_say_the_same(texts: list[str]) -> None:
    characters = (ANN, character("fox", "a red fox"), character("R2#", "a robot"))
    names = [c.name for c in characters]
    try:
        panels = resolve_pronouns(tuple(panel(text) for text in texts), characters)
    except ValueError:
        return  # the markup of some random words is wrong
    for carried_on in panels:
        assert carried_on.markup in (None, parse_markup(carried_on.text, names))
