"""Who is in the picture, of labelled sentences of seven kinds (`labelled.txt`)."""

from collections import Counter

import pytest

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.names.markup import markup_of
from storyreel.stages.prompts.beats import FilmTiming
from storyreel.stages.prompts.config import PromptsConfig
from storyreel.stages.prompts.splitting import StorySplitter
from tests.stages.prompts.builders import story
from tests.stages.prompts.cast.labelled import Labelled, read_labelled

SPLITTER = StorySplitter(
    PromptsConfig(min_panel_words=1),
    FilmTiming.of(PromptsConfig(), num_frames=16, fps=8, still_s=1.5),
    InputConfig(),
)
LABELLED = read_labelled()
KINDS = sorted({one.kind for one in LABELLED})


def shown(one: Labelled) -> frozenset[str]:
    split = SPLITTER(story(text=one.text, characters=one.characters)).story
    names = [character.name for character in split.characters]
    return frozenset(markup_of(split.panels[-1], names).names)


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_characters_are_in_the_picture(kind: str) -> None:
    wrong = [one.text for one in LABELLED if one.kind == kind and shown(one) != one.shown]
    assert Counter(one.kind for one in LABELLED)[kind] == 40
    assert len(wrong) <= 2, wrong
