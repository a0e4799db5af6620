"""Settings of the prompts stage, and the styles that stories may name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, field_validator

from storyreel.stages.captions import SPEED
from storyreel.stages.languages import LANGUAGES
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.settings import Settings


class Style(Settings):
    """A style: a template around the prompt, and a negative prompt."""

    prompt: str
    """Template that contains `{prompt}` once."""
    negative_prompt: str = ""
    """Negative prompt: what the picture should not show."""

    @field_validator("prompt")
    @classmethod
    def _holds_the_prompt(cls, template: str) -> str:
        if template.count("{prompt}") != 1:
            raise ValueError(f"style template {template!r}: must contain {{prompt}} once")
        return template


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "watercolor": Style(
            prompt="{prompt}, loose watercolor painting, soft washes, visible paper grain",
            negative_prompt="photograph, 3d render, hard outlines",
        ),
        "comic": Style(
            prompt="comic panel of {prompt}, bold ink lines, flat bright colors",
            negative_prompt="photograph, blurry, pale colors",
        ),
        "film noir": Style(
            prompt="{prompt}, black and white film still, hard side light, deep shadows",
            negative_prompt="color, cartoon, flat light",
        ),
        "photographic": Style(
            prompt="photograph of {prompt}, natural light, 50 mm lens, fine detail",
            negative_prompt="drawing, painting, cartoon, render",
        ),
        "storybook": Style(
            prompt="{prompt}, picture book illustration, gouache, warm gentle colors",
            negative_prompt="photograph, harsh shadows, text",
        ),
        "pencil": Style(
            prompt="pencil drawing of {prompt}, fine hatching on white paper",
            negative_prompt="color, photograph, smudges",
        ),
    }
)
"""Bundled styles by name; a configuration may replace them and add others."""


class ChatConfig(Settings):
    """A chat model that describes the picture of each panel of prose."""

    model: ModelConfig
    max_new_tokens: Annotated[int, Field(ge=16, le=2048)] = 256
    """Longest answer for one panel, in tokens of the chat model; a longer one is not used."""
    max_picture_chars: Annotated[int, Field(ge=20, le=1000)] = 240
    """Longest description of one picture, in characters."""


class PromptsConfig(Settings):
    """Settings of the prompts stage."""

    language: str = "en"
    """Language of stories that state none, an ISO 639-1 code; of those whose language nothing tells
    if `detect_language` is on."""
    detect_language: bool = True
    """Tell the language of a story that states none by its letters and words."""
    duration_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Least length of a film in seconds if the story states none; `None`: one beat per panel."""
    max_panel_words: Annotated[int, Field(ge=5)] = 40
    """Sentences of prose with more words are split at the end of a clause."""
    min_panel_words: Annotated[int, Field(ge=1)] = 2
    """Sentences of prose with fewer words are joined to a neighbour."""
    hold_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Length of a hold in seconds; a cut from a panel to which no motion leads is a hold too."""
    dissolve_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Length of a dissolve in seconds."""
    reading_speed: Annotated[float, Field(ge=0, le=100)] = SPEED
    """Letters of a caption that people read a second. A panel is seen for so long, and for at least
    1.2 s, by more beats or a longer hold; 0: captions take what time there is."""
    max_chunks: Annotated[int, Field(ge=1, le=16)] = 4
    """Chunks of a long prompt, each as long as the text encoders read (77 tokens as a rule); words
    beyond are cut, and told."""
    style: str = ""
    """Default style: free text, or the name of a style."""
    negative_prompt: str = ""
    """Negative prompt of stories that state none."""
    styles: dict[str, Style] = Field(default_factory=dict)
    """Styles by name, in addition to the bundled ones or in place of them."""
    chat: ChatConfig | None = None

    @field_validator("language")
    @classmethod
    def _known_language(cls, language: str) -> str:
        if language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            raise ValueError(f"language {language!r}: must be one of {known}")
        return language

    def find_style(self, text: str) -> Style:
        """Return the style named `text` (in any case), or one that puts `text` after the prompt."""
        named = {name.casefold(): style for name, style in {**STYLES, **self.styles}.items()}
        plain = text.replace("{", "").replace("}", "").strip(" ,")
        free = Style(prompt=f"{{prompt}}, {plain}" if plain else "{prompt}")
        return named.get(text.strip().casefold(), free)
