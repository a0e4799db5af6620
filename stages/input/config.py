"""Limits of the stories that a job accepts, and where it may read them."""

from pydantic import Field

from storyreel.stages.settings import Settings


class InputConfig(Settings):
    """Limits of a story; a row beyond one of them is rejected, and the others are rendered."""

    private_addresses: bool = False
    """Allow stories from web servers with private, loopback or link-local addresses."""

    max_story_chars: int = Field(default=100_000, ge=1)
    """Characters of a story's prose, or of all texts of its panels and characters together."""
    max_field_chars: int = Field(default=4_000, ge=1)
    """Characters of one text: a panel, a caption, a description, the style, the negative prompt."""
    max_panels: int = Field(default=1_000, ge=1)
    """Panels of a storyboard."""
    max_beats: int = Field(default=100, ge=1)
    """Beats of one panel."""
    max_keyframes: int = Field(default=2_000, ge=1)
    """Keyframes of a film, which are the beats of all panels."""
    max_characters: int = Field(default=100, ge=1)
    """Characters that a story defines."""
