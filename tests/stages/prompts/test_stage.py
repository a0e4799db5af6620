import json
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.stories import read_stories
from storyreel.stages.input.story_rows import to_story
from storyreel.stages.output.records import CharacterBox, ShotKind, Story, Storyboard
from storyreel.stages.prompts.input_rows import to_input_row
from storyreel.stages.prompts.stage import PromptsStage
from tests.stages.prompts.builders import character, panel, story
from tests.stages.prompts.conftest import MakeStage
from tests.stages.prompts.test_compose import cuts

ANN = character("Ann", "a girl in a red coat")
TOM = character("Tom", "a boy")


def render(stage: PromptsStage, told: Story) -> Storyboard:
    (storyboard,) = stage(told)
    return storyboard


def test_prose_becomes_a_panel_for_each_sentence_with_its_characters(stage: PromptsStage) -> None:
    board = render(
        stage,
        story(text="Ann walks in the park. She meets Tom. They dance.", characters=(ANN, TOM)),
    )
    assert [p.prompt for p in board.panels] == [
        "a girl in a red coat walks in the park",
        "a girl in a red coat meets a boy",
        "a girl in a red coat and a boy dance",
    ]
    assert [p.caption for p in board.panels] == [
        "Ann walks in the park.", "She meets Tom.", "They dance.",
    ]  # fmt: skip
    assert {p.splitter for p in board.panels} == {"rules"}
    assert [s.shot_index for s in board.shots] == [0, 1]


def test_a_minute_is_filled_with_beats_of_the_same_prompt_and_other_seeds(
    stage: PromptsStage,
) -> None:
    board = render(stage, story("[Ann] runs", "[Ann] sits", characters=(ANN,), duration_s=60.0))
    assert len(board.panels) == 33
    assert {p.prompt for p in board.panels} == {
        "a girl in a red coat runs", "a girl in a red coat sits",
    }  # fmt: skip
    assert len({p.seed for p in board.panels}) == 33
    assert 1 + sum(s.num_frames - 1 for s in board.shots) == 481


def test_prose_with_more_sentences_than_the_film_has_room_for_is_joined(
    stage: PromptsStage,
) -> None:
    text = " ".join(f"Ann runs to tree number {index}." for index in range(20))
    board = render(stage, story(text=text, characters=(ANN,), duration_s=6.0))
    assert len(board.panels) == 5
    assert " ".join(p.caption for p in board.panels) == text


@pytest.mark.parametrize("second", ["[Ann] runs home.", "Ann runs home."])
def test_prose_that_is_joined_keeps_pictures_of_nobody_apart(
    stage: PromptsStage, second: str
) -> None:
    text = f"[NC] A house. {second} [NC] The lake. [NC] The sea."
    board = render(stage, story(text=text, characters=(ANN,), duration_s=2.0))
    assert [p.characters for p in board.panels] == [(), ("Ann",), ()]
    assert [p.caption for p in board.panels] == ["A house.", "Ann runs home.", "The lake. The sea."]


def test_a_story_that_stands_for_less_than_asked_is_told_so(stage: PromptsStage) -> None:
    board = render(stage, story(panel("a", beats=1), duration_s=60.0))
    (warning,) = board.panels[0].warnings
    assert "0.125 s and its closing still instead of the 60 s asked for" in warning


def test_a_written_panel_is_never_dropped_and_the_longer_film_is_told(stage: PromptsStage) -> None:
    board = render(stage, story(*["a tree"] * 9, duration_s=2.0))
    assert len(board.panels) == 9
    assert "no written panel is dropped" in board.panels[0].warnings[0]


def test_the_panel_that_starts_a_shot_gives_its_kind_and_beats_are_joined_by_motion(
    stage: PromptsStage,
) -> None:
    panels = [
        panel("a", shot="hold", beats=2),
        panel("b", shot="cut", beats=2),
        panel("c", shot="dissolve"),
        panel("d"),
    ]
    board = render(stage, story(*panels))
    assert [(s.kind.value, s.num_frames) for s in board.shots] == [
        ("motion", 16), ("hold", 9), ("motion", 16), ("cut", 2), ("dissolve", 9),
    ]  # fmt: skip


def test_the_same_story_gives_the_same_seeds_and_another_seed_others(stage: PromptsStage) -> None:
    first, again = render(stage, story("a", "b")), render(stage, story("a", "b"))
    other = render(stage, story("a", "b", seed=1))
    assert first == again
    assert {p.seed for p in first.panels}.isdisjoint(p.seed for p in other.panels)


def test_a_draft_and_the_final_film_share_their_seeds(make_stage: MakeStage) -> None:
    told = story("a", "b", "c")
    draft = render(make_stage(num_frames=8, style="pencil"), told)
    final = render(make_stage(), told)
    assert [p.seed for p in draft.panels] == [p.seed for p in final.panels]
    assert [s.seed for s in draft.shots] == [s.seed for s in final.shots]


def test_the_smaller_of_two_text_encoders_sets_the_limit(make_stage: MakeStage) -> None:
    (cut,) = make_stage(200, 17, max_chunks=1)(story("a long walk in the green park", "a"))
    assert cut.panels[0].prompt == "a long walk in the"
    assert "green park" in cut.panels[0].warnings[0]


def test_the_configuration_speaks_where_the_story_is_silent(make_stage: MakeStage) -> None:
    stage = make_stage(style="pencil", negative_prompt="rain", duration_s=6.0)
    board = render(stage, story("a cat", "a dog"))
    assert board.panels[0].prompt.startswith("pencil drawing of a cat")
    assert board.panels[0].negative_prompt.startswith("rain, color")
    assert len(board.panels) == 5
    own = render(stage, story("a cat", style="gouache", negative_prompt="snow", duration_s=1.0))
    assert (own.panels[0].prompt, own.panels[0].negative_prompt) == ("a cat, gouache", "snow")


def test_a_subject_may_be_introduced_where_the_picture_shows_nobody(stage: PromptsStage) -> None:
    row = {"story_id": "a", "text": "[NC] A young fox lived here. The fox ran. The fox slept."}
    (storyboard,) = stage(to_story(row, "a.jsonl", 1, InputConfig()))
    assert [panel.characters for panel in storyboard.panels] == [(), ("the fox",), ("the fox",)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"panels": ["a fox"], "duration_s": 3600},
            r"film: \d+ keyframes: at most 100 are allowed \(input.max_keyframes\)",
        ),
        (
            {"text": "A fox. " + "b" * 300},
            r"text: passage 0: 307 characters: at most 200 are allowed",
        ),
    ],
)
def test_a_story_that_grows_beyond_a_limit_is_refused(
    make_stage: MakeStage, row: dict[str, Any], told: str
) -> None:
    limits = InputConfig(max_keyframes=100, max_field_chars=200)
    stage = make_stage(limits=limits)
    with pytest.raises(ValueError, match=told):
        stage(to_story({"story_id": "a", **row}, "a.jsonl", 1, InputConfig()))


def test_prose_without_characters_finds_them_and_says_so(stage: PromptsStage) -> None:
    text = "A young fox sat in the park. The fox ran. Then it started to rain. The fox slept."
    board = render(stage, story(text=text))
    assert [p.prompt for p in board.panels][:2] == [
        "a young fox sat in the park",
        "a young fox ran",
    ]
    assert [p.characters for p in board.panels] == [("the fox",), ("the fox",), (), ("the fox",)]
    assert board.panels[0].caption == "A young fox sat in the park."
    assert "found 'the fox'" in board.panels[0].warnings[0]


WORDS = st.sampled_from(
    ["Ann", "[Tom]", "she", "They", "runs", "'s", "#", "\\#", "[NC]", "a", '"Oh,"', ".", "- ;"]
)
TEXT = st.lists(WORDS, min_size=1, max_size=14).map(" ".join)
POSE = st.sampled_from([None, "poses/run.png"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    prose=TEXT,
    panels=st.lists(st.tuples(TEXT, st.sampled_from(list(ShotKind)), POSE), max_size=4),
    duration_s=st.none() | st.floats(0.5, 30),
)
def test_the_row_of_a_split_renders_to_the_same_film(
    stage: PromptsStage,
    tmp_path_factory: object,
    prose: str,
    panels: list[tuple[str, ShotKind, str | None]],
    duration_s: float | None,
) -> None:
    written = [
        replace(panel(text, shot=kind.value), control_image=pose) for text, kind, pose in panels
    ]
    told = story(
        *written, text=None if panels else prose, characters=(ANN, TOM), duration_s=duration_s
    )
    try:
        board = render(stage, told)
    except ValueError:
        return  # the markup of some random words is wrong
    row = json.dumps(to_input_row(stage.split(told)))
    path = tmp_path_factory.mktemp("rows") / "row.jsonl"  # type: ignore[attr-defined]
    Path(path).write_text(row)
    (again,) = read_stories(str(path), InputConfig())
    assert isinstance(again, Story), again
    rendered = render(stage, again)
    assert rendered.shots == board.shots
    kept = attrgetter("prompt", "seed", "caption", "characters", "control_image")
    assert [kept(p) for p in rendered.panels] == [kept(p) for p in board.panels]


def test_layouts_and_places_reach_every_beat_and_survive_the_storyboard(
    stage: PromptsStage,
) -> None:
    box = CharacterBox(character="Ann", left=0.1, top=0.25, right=0.5, bottom=1.0)
    written = replace(panel("[Ann] swims"), beats=2, layout=(box,), place="the lake")
    told = story(written, panel("[Tom] waits"), text=None, characters=(ANN, TOM))
    first, second, third = render(stage, told).panels
    assert first.layout == second.layout == (box,)
    assert first.place == second.place == "the lake"
    assert third.layout == () and third.place is None
    row = to_input_row(stage.split(told))
    assert row["panels"][0]["layout"] == {"Ann": [0.1, 0.25, 0.5, 1.0]}
    again = to_story(row, "row.jsonl", 1, InputConfig())
    assert render(stage, again).panels[0].layout == (box,)
    assert render(stage, again).panels[0].place == "the lake"


def test_the_examples_render_and_one_of_them_lasts_a_minute(stage: PromptsStage) -> None:
    stories = list(read_stories("examples", InputConfig()))
    assert len(stories) >= 8
    boards = [render(stage, told) for told in stories if isinstance(told, Story)]
    assert len(boards) == len(stories)
    assert max(1 + sum(s.num_frames - 1 for s in board.shots) for board in boards) >= 60 * 8
    assert any(not p.characters for board in boards for p in board.panels)
    assert any(len(p.characters) == 2 for board in boards for p in board.panels)


def test_a_long_prompt_loses_no_word(make_stage: MakeStage) -> None:
    (board,) = make_stage(17)(story("a long walk in the green park", "a"))
    assert board.panels[0].prompt == "a long walk in the green park"
    assert not cuts(board.panels[0].warnings)


def test_marks_of_prompts_are_weights_and_no_caption(make_stage: MakeStage) -> None:
    ann = character("Ann", "a girl in a (red coat:1.4), <lora:sketch:0.8>")
    board = render(make_stage(), story("[Ann] walks in the ((park)), 8k", characters=(ann,)))
    assert board.panels[0].prompt == "a girl in a (red coat:1.4) walks in the ((park)), 8k"
    assert board.panels[0].caption == "Ann walks in the park, 8k"
    assert "'<lora:sketch:0.8>' is no word" in board.panels[0].warnings[0]


CASES: list[tuple[str, str, list[tuple[str, ...]]]] = [
    (
        "小明",
        '小明是一个男孩。他住在村子里。"你好,"小明说。狐狸跑了。',
        [("小明",), ("小明",), ("小明",), ()],
    ),
    ("太郎", "太郎は川へ行きました。彼は帰りました。弟は寝ました。", [("太郎",), ("太郎",), ()]),
    ("Ana", "Ana está en la playa. Ella corre con el perro. Los perros ladran.", [
        ("Ana",), ("Ana",), (),
    ]),
    ("Emma", "Emma ist im Garten. Sie spielt mit der Katze. Das Haus ist alt.", [
        ("Emma",), ("Emma",), (),
    ]),
    ("Léa", "Léa est dans la forêt. Elle voit un oiseau. Les arbres sont verts.", [
        ("Léa",), ("Léa",), (),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "shown"), CASES)
def test_other_languages_have_their_sentences_names_and_pronouns(
    stage: PromptsStage, name: str, text: str, shown: list[tuple[str, ...]]
) -> None:
    board = render(stage, story(text=text, characters=(character(name, "a child"),)))
    assert [p.characters for p in board.panels] == shown
    assert "".join(p.caption for p in board.panels).replace(" ", "") == text.replace(" ", "")


def test_a_sentence_of_seventy_words_becomes_panels(stage: PromptsStage) -> None:
    text = "The old fox walked along the river, past the mill and the trees, " * 5 + "and slept."
    board = render(stage, story(text=text))
    assert len(board.panels) > 1
    assert max(len(p.caption.split()) for p in board.panels) <= 40
    assert " ".join(p.caption for p in board.panels) == text


def written(**first: object) -> Story:
    """A story of two panels; the first has the given fields."""
    row = {
        "story_id": "s",
        "panels": [{"text": "[Ann] sits", **first}, "[Ann] reads"],
        "characters": [{"name": "Ann", "description": ANN.description}],
    }
    return to_story(row, "stories.jsonl", 1, InputConfig())


@pytest.mark.parametrize(
    ("motion", "text"),
    [
        (None, "a girl in a red coat sits, then a girl in a red coat reads"),
        ("turns to the door", "a girl in a red coat sits, then turns to the door"),
        ("[Ann] stands up", "a girl in a red coat sits, then a girl in a red coat stands up"),
    ],
)
def test_a_shot_is_told_what_happens_on_the_way_else_what_comes_next(
    stage: PromptsStage, motion: str | None, text: str
) -> None:
    told = {} if motion is None else {"motion": motion, "motion_guidance": 6.5}
    (shot,) = render(stage, written(**told)).shots
    assert shot.text == text
    assert shot.guidance_scale == (None if motion is None else 6.5)


def test_only_the_last_beat_of_a_panel_leads_on(stage: PromptsStage) -> None:
    inner, leading = render(stage, written(beats=2, motion="stands up")).shots
    assert inner.text == "a girl in a red coat sits"
    assert leading.text.endswith("then stands up")


def test_motion_that_was_written_is_in_the_storyboard_that_people_edit(
    stage: PromptsStage,
) -> None:
    row = to_input_row(stage.split(written(motion="stands up", motion_guidance=2.0)))
    assert row["panels"][0]["motion"] == "stands up"
    assert "motion" not in row["panels"][1]
    again = to_story(row, "stories.jsonl", 1, InputConfig())
    assert again.panels[0].motion_guidance == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"motion": "runs", "shot": "cut"}, r"panels\[0\]: motion: must be left out, its shot is"),
        ({"motion_guidance": 3, "shot": "hold"}, r"motion_guidance: must be left out"),
        ({"motion": "[Bob] runs"}, r"panels\[0\]: motion: '\[Bob\] runs' .*Bob"),
        ({"motion": "runs # fast"}, "must have no caption"),
        ({"motion_guidance": 31}, r"motion_guidance: 31"),
    ],
)
def test_motion_that_could_change_nothing_is_refused(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        written(**fields)
    last = {"story_id": "s", "panels": ["a", {"text": "b", "motion": "runs"}]}
    with pytest.raises(ValueError, match="no shot follows the last panel"):
        to_story(last, "stories.jsonl", 1, InputConfig())
