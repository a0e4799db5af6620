"""Writes split stories as input rows, which a person can edit and render."""

import dataclasses
from typing import Any

from storyreel.stages.input.names.markup import caption_of, markup_of
from storyreel.stages.output.records import PanelInput, Story
from storyreel.stages.prompts.splitting import Split


def to_input_row(split: Split) -> dict[str, Any]:
    """Return a split story as an input row of plain values; it renders to the same film.

    Fields without a value are left out.
    """
    story = split.story
    row: dict[str, Any] = {
        "story_id": story.story_id,
        "panels": [_panel_row(panel, story) for panel in story.panels],
        "characters": [
            {key: value for key, value in dataclasses.asdict(character).items() if value}
            for character in story.characters
        ],
        "style": story.style,
        "negative_prompt": story.negative_prompt,
        "seed": story.seed,
        "duration_s": story.duration_s,
        "language": story.language,
    }
    return {key: value for key, value in row.items() if value not in (None, "", [])}


def _panel_row(panel: PanelInput, story: Story) -> dict[str, Any]:
    markup = markup_of(panel, [character.name for character in story.characters])
    row: dict[str, Any] = {"text": panel.text, "beats": panel.beats, "shot": panel.shot.value}
    if markup.caption is None:
        row["caption"] = caption_of(panel, markup)
    own = {
        "control_image": panel.control_image,
        "motion": panel.motion,
        "motion_guidance": panel.motion_guidance,
        "layout": {b.character: [b.left, b.top, b.right, b.bottom] for b in panel.layout} or None,
        "place": panel.place,
    }
    return row | {name: value for name, value in own.items() if value is not None}
