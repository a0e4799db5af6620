"""Short stories that people had trouble with, and who is in each of their pictures."""

import pytest

from storyreel.stages.prompts.stage import PromptsStage
from tests.stages.prompts.builders import character, story

WORDS = (
    character("Will", "a boy in a green cap"),
    character("May", "a girl in a red coat"),
    character("Rose", "a woman in a white dress"),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "A girl found a milk jug. The milk was warm. She drank the milk. The milk tasted sweet,"
            " and the milk jug was soon empty.",
            [("the girl",), (), ("the girl",), ()],
        ),
        (
            "An old lighthouse keeper lived alone. The lighthouse stood on a rock. The lighthouse"
            " shone at night. The keeper climbed the stairs. The keeper slept.",
            [("the keeper",), (), (), ("the keeper",), ("the keeper",)],
        ),
        (
            "There was a garden gate. The garden had roses. The gate opened. The garden slept"
            " in the sun. The gate closed.",
            [("the gate",), (), ("the gate",), (), ("the gate",)],
        ),
        (
            "A baker had three sons. The baker gave them flour. They baked bread. The baker slept."
            " Then they cleaned the kitchen.",
            [
                ("the baker", "the sons"),
                ("the baker", "the sons"),
                ("the sons",),
                ("the baker",),
                ("the sons",),
            ],
        ),
    ],
)
def test_stories_without_a_list(
    stage: PromptsStage, text: str, shown: list[tuple[str, ...]]
) -> None:
    (board,) = stage(story(text=text))
    assert [panel.characters for panel in board.panels] == shown


def test_names_that_are_other_words_too(stage: PromptsStage) -> None:
    text = (
        "Will walked to the river. In May the snow was gone. Will you come with me? asked May."
        " Rose bushes grew by the gate. Rose watered the flowers."
    )
    (board,) = stage(story(text=text, characters=WORDS))
    assert [panel.characters for panel in board.panels] == [
        ("Will",), (), ("May",), (), ("Rose",),
    ]  # fmt: skip


def test_a_description_never_stands_within_a_compound(stage: PromptsStage) -> None:
    tom = character("Tom", "a tall man in a blue suit")
    (board,) = stage(story("Tom dog barks", "Ann-Tom runs", "[Tom] barks", characters=(tom,)))
    assert [panel.prompt for panel in board.panels] == [
        "Tom dog barks", "Ann-Tom runs", "a tall man in a blue suit barks",
    ]  # fmt: skip
