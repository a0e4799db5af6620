import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyreel.stages.input.names.markup import parse_markup
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.prompts.compose import compose, compose_motion, compose_negative
from storyreel.stages.prompts.config import PromptsConfig, Style
from storyreel.stages.prompts.token_budget import OPEN_VOCABULARY, TokenBudget, load_tokenizers
from tests.stages.prompts.builders import make_tokenizer

ANN = {"Ann": "a girl in a red coat"}
PAIR = {**ANN, "Tom": "a boy with a kite"}
PLAIN = Style(prompt="{prompt}")
WASH = Style(prompt="{prompt}, soft wash on paper", negative_prompt="photo")


def budget(limit: int) -> TokenBudget:
    """Letters and two special tokens."""
    return TokenBudget([make_tokenizer(limit)])


def prompt(text: str, descriptions: dict[str, str], style: Style = PLAIN, limit: int = 500) -> str:
    return compose(parse_markup(text, descriptions), descriptions, style, budget(limit)).text


def cuts(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """The warnings but that of words that the tokenizer, which knows letters only, has not."""
    return tuple(warning for warning in warnings if "not trained with" not in warning)


def test_the_description_stands_in_place_of_the_first_mention() -> None:
    assert prompt("[Ann] runs. Ann jumps.", ANN) == "a girl in a red coat runs. Ann jumps"


def test_both_characters_are_described() -> None:
    assert prompt("[Ann] meets Tom", PAIR) == "a girl in a red coat meets a boy with a kite"


def test_an_owner_keeps_the_name_and_is_described_in_front() -> None:
    assert prompt("Ann's kite flies", ANN) == "a girl in a red coat, Ann's kite flies"
    assert prompt("Ann runs with Ann's kite", ANN) == "a girl in a red coat runs with Ann's kite"


def test_a_character_without_description_keeps_the_name() -> None:
    assert prompt("[Ann] runs", {"Ann": ""}) == "Ann runs"


def test_style_is_a_name_of_the_table_or_free_text() -> None:
    config = PromptsConfig(styles={"chalk": Style(prompt="chalk drawing of {prompt}")})
    assert prompt("a cat", {}, config.find_style("Chalk")) == "chalk drawing of a cat"
    assert prompt("a cat", {}, config.find_style("oil on wood")) == "a cat, oil on wood"
    assert "ink lines" in prompt("a cat", {}, config.find_style("comic"))
    assert prompt("a cat", {}, config.find_style("{odd}")) == "a cat, odd"


def test_a_style_without_a_place_for_the_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        Style(prompt="oil on wood")


WHOLE = "a girl in a red coat sees a boy with a kite jump over a puddle"


def cut_to(limit: int) -> tuple[str, tuple[str, ...]]:
    text = "[Ann] sees Tom jump over a puddle"
    written = compose(parse_markup(text, PAIR), PAIR, WASH, budget(limit))
    return written.text, cuts(written.warnings)


@pytest.mark.parametrize(
    ("limit", "text", "warnings"),
    [
        (90, f"{WHOLE}, soft wash on paper", 0),
        (57, f"{WHOLE}, soft", 1),
        (50, WHOLE, 1),
        (42, "a girl in a red coat sees a boy jump over a puddle", 2),
        (34, "a girl sees a boy jump over a puddle", 2),
        (29, "a girl sees Tom jump over a puddle", 3),
        (27, "Ann sees Tom jump over a puddle", 4),
    ],
)
def test_style_goes_first_and_the_words_of_the_user_last(
    limit: int, text: str, warnings: int
) -> None:
    written, told = cut_to(limit)
    assert written == text
    assert len(told) == warnings


def test_a_warning_repeats_the_words_that_were_cut() -> None:
    text, warnings = cut_to(15)
    assert text == "Ann sees Tom"
    assert "'jump over a puddle'" in warnings[-1]


@settings(max_examples=40, deadline=None)
@given(
    st.text(alphabet="abc ,.", min_size=1, max_size=80).filter(lambda text: text.strip(" ,.")),
    st.text(alphabet="xy ,", max_size=40),
    st.integers(12, 60),
)
def test_a_prompt_always_fits_every_encoder(words: str, description: str, limit: int) -> None:
    tight = TokenBudget([make_tokenizer(200), make_tokenizer(limit)])
    markup = parse_markup(f"[Ann] {words}", {"Ann": ""})
    written = compose(markup, {"Ann": description}, WASH, tight)
    assert tight.fits(written.text)


def test_the_negative_prompt_of_the_user_comes_first_and_goes_last() -> None:
    assert compose_negative("rain", WASH, budget(99)) == ("rain, photo", ())
    assert compose_negative("", WASH, budget(99)) == ("photo", ())
    assert compose_negative("rain", PLAIN, budget(99)) == ("rain", ())
    text, warnings = compose_negative("rain", WASH, budget(8))
    assert text == "rain"
    assert "'photo'" in warnings[0]


def test_a_shot_tells_where_it_comes_from_and_where_it_goes() -> None:
    first = compose(parse_markup("[Ann] runs", ANN), ANN, WASH, budget(99))
    second = compose(parse_markup("[Ann] sits", ANN), ANN, WASH, budget(99))
    assert compose_motion(first, second, WASH, budget(99)) == (
        "a girl in a red coat runs, then a girl in a red coat sits, soft wash on paper"
    )
    assert compose_motion(first, second, WASH, budget(50)) == second.text
    assert compose_motion(first, first, WASH, budget(99)) == first.text


def test_words_that_a_small_model_was_not_trained_with_are_told() -> None:
    """The bundled model draws something else for them, which nobody could explain."""
    known = TokenBudget(load_tokenizers(ModelConfig()))
    told = compose(parse_markup("A dragon sits in the park", ()), {}, PLAIN, known).warnings
    assert told == ("prompt: the model was not trained with 'dragon'",)


def test_a_vocabulary_for_any_text_knows_every_word() -> None:
    large = make_tokenizer(500)
    large.add_tokens([f"word{number}" for number in range(OPEN_VOCABULARY)])
    assert not TokenBudget([large]).unknown_words("a dragon")
