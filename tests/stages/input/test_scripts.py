"""Scripts of other programs as stories."""

import json
from pathlib import Path
from typing import Any

import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.stories import read_stories
from storyreel.stages.output.records import Story

SCENES: dict[str, Any] = {
    "title": "The mill",
    "style": "comic",
    "characters": [
        {"name": "Ann", "static_features": "a girl with red hair.", "dynamic_features": "a coat"},
        {"name": "Ben", "description": "an old miller"},
    ],
    "scenes": [
        {
            "location": "a mill by a river",
            "shots": [
                {
                    "first_frame": "Ann stands at the door (half open)",
                    "motion": "She pushes the door.",
                    "dialogue": [{"speaker": "Ann", "text": "Who is there?"}],
                    "characters": ["Ann"],
                },
                {
                    "first_frame": {"description": "A dark room [night]", "characters": ["Ben"]},
                    "motion": "A lamp is lit.",
                },
            ],
        }
    ],
}
SHOTS: dict[str, Any] = {
    "characters": {"Rex": "a dog"},
    "shots": [{"ff_desc": "A dog runs", "motion_desc": "It jumps", "lf_desc": "It lands"}],
}
SCRIPT: dict[str, Any] = {
    "script": "INT. MILL - DAY\n\nANN, a girl in a red coat, sweeps.\n\nANN\nWho is there?",
    "user_requirement": "fast",
    "style": "comic",
}
BENCH: dict[str, Any] = {
    "Story_type": {"en": "Folktale", "ch": "民间故事"},
    "Shots": [
        {
            "index": 1,
            "Plot Correspondence": {"en": "The miller greets the geese.", "ch": "。"},
            "Setting Description": {"en": "A river bank", "ch": "。"},
            "Shot Perspective Design": {"en": "Wide shot", "ch": "。"},
            "Characters Appearing": {"en": ["Miller"], "ch": ["。"]},
            "Static Shot Description": {"en": "An old man bows to nine geese.", "ch": "。"},
        }
    ],
    "Characters": {"Miller": {"name_en": "Miller", "prompt_en": "an old man in a white coat"}},
}


def read(document: dict[str, Any], folder: Path) -> Story:
    (folder / "my mill.json").write_text(json.dumps(document))
    (story,) = read_stories(str(folder / "my mill.json"), InputConfig())
    assert isinstance(story, Story), story
    return story


def test_scenes_with_shots_are_panels(tmp_path: Path) -> None:
    story = read(SCENES, tmp_path)
    assert (story.story_id, story.style) == ("my-mill", "comic")
    assert [(panel.text, panel.caption) for panel in story.panels] == [
        (
            "Ann stands at the door (half open). She pushes the door. a mill by a river",
            "Ann: Who is there?",
        ),
        (r"[Ben], A dark room \[night\]. A lamp is lit. a mill by a river", ""),
    ]
    assert [(c.name, c.description) for c in story.characters] == [
        ("Ann", "a girl with red hair, a coat"),
        ("Ben", "an old miller"),
    ]


def test_shots_without_scenes_are_panels(tmp_path: Path) -> None:
    story = read(SHOTS, tmp_path)
    assert [panel.text for panel in story.panels] == ["A dog runs. It jumps. It lands"]
    assert story.characters[0].name == "Rex"


def test_a_script_is_read_as_a_screenplay(tmp_path: Path) -> None:
    story = read(SCRIPT, tmp_path)
    assert [panel.caption for panel in story.panels] == [
        "Ann, a girl in a red coat, sweeps.",
        "Ann: Who is there?",
    ]


def test_a_story_of_the_benchmark_is_read(tmp_path: Path) -> None:
    story = read(BENCH, tmp_path)
    (panel,) = story.panels
    assert panel.text == "[Miller], An old man bows to nine geese. A river bank. Wide shot"
    assert panel.caption == "The miller greets the geese."


@pytest.mark.parametrize("document", [{"scenes": 3}, {"shots": [1]}, {"script": ""}, {}])
def test_what_is_no_script_is_refused_as_a_row(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document))
    (rejection,) = read_stories(str(tmp_path / "a.json"), InputConfig())
    assert not isinstance(rejection, Story)
