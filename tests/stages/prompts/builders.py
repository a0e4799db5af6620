"""Stories and tokenizers as the tests of stage 1 need them."""

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from storyreel.stages.output.records import Character, PanelInput, ShotKind, Story


def make_tokenizer(max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer that has learned no merges: a token for each byte."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [symbol + end for end in ("", "</w>") for symbol in symbols]
    vocab = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_length)


def character(name: str, description: str = "") -> Character:
    return Character(name=name, description=description, reference_image=None)


def panel(text: str, *, shot: str = "motion", beats: int | None = None) -> PanelInput:
    return PanelInput(text=text, caption=None, shot=ShotKind(shot), beats=beats)


def story(
    *panels: str | PanelInput, characters: tuple[Character, ...] = (), **fields: object
) -> Story:
    """A story of panels, or of the prose in `text`."""
    given = {
        "story_id": "s", "source_file": "stories.jsonl", "source_row": 1, "text": None, "style": "",
        "negative_prompt": "", "seed": 0, "duration_s": None, **fields,
    }  # fmt: skip
    written = tuple(panel(p) if isinstance(p, str) else p for p in panels)
    return Story(panels=written, characters=characters, **given)  # type: ignore[arg-type]
