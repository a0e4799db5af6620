"""Descriptions of the picture of each panel by a chat model.

The answer is constrained to a JSON schema while it is generated, so that it can always be parsed,
unless it ends at the limit of tokens.
"""

from typing import Any

import outlines
import torch
from outlines.inputs import Chat
from outlines.types import JsonSchema
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from storyreel.stages.heartbeat import beat
from storyreel.stages.input.names.markup import escape, find_names
from storyreel.stages.models.config import resolve
from storyreel.stages.models.loading import torch_dtype
from storyreel.stages.output.records import Character
from storyreel.stages.prompts.config import ChatConfig

# Characters that JSON strings contain without an escape; no picture needs others.
_PLAIN_TEXT = r'[^"\\\x00-\x1f]'
_TASK = (
    "You plan the pictures of a picture story. For one passage of the story say in one short"
    " English sentence what its picture shows: who, doing what, where, when. Name the characters as"
    " the list does. Answer in JSON with the fields `picture` and `characters`."
)


class Answer(BaseModel):
    """The chat model's description of a picture, and the characters in it."""

    picture: str
    characters: list[str] = []


class ChatDirector:
    """Describes the pictures of passages with a chat model of transformers, which it loads."""

    def __init__(self, config: ChatConfig) -> None:
        path = resolve(config.model.path)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=config.model.revision,
            variant=config.model.variant,
            dtype=torch_dtype(config.model),
            use_safetensors=True,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path, revision=config.model.revision)
        self._config = config
        self._model = outlines.from_transformers(model.to(config.model.device).eval(), tokenizer)

    def describe(self, passages: list[str], characters: tuple[Character, ...]) -> list[str]:
        """Describe the picture of each passage.

        Args:
            passages: the words of the panels, in order; each request contains the three before.
            characters: of the story.

        Returns:
            For each passage a panel's text, with markup.

        Raises:
            ValueError: an answer reached the limit of tokens before its end, or is empty.
        """
        names = [character.name for character in characters]
        schema = _schema(names, self._config.max_picture_chars)
        write = outlines.Generator(self._model, JsonSchema(schema))
        return [
            _panel_text(self._answer(write, _messages(index, passages, characters)), names)
            for index in range(len(passages))
        ]

    def _answer(self, write: Any, messages: list[dict[str, str]]) -> Answer:
        tokens = self._config.max_new_tokens
        # outlines compiles the kernel that masks tokens: that takes longer than a short answer.
        with torch.compiler.set_stance("force_eager"):
            text = write(Chat(messages), max_new_tokens=tokens, do_sample=False)
        beat()
        return Answer.model_validate_json(text)


def _schema(names: list[str], max_chars: int) -> dict[str, Any]:
    picture = {"type": "string", "pattern": f"^{_PLAIN_TEXT}{{1,{max_chars}}}$"}
    properties: dict[str, Any] = {"picture": picture}
    if names:
        name = {"type": "string", "enum": names}
        properties["characters"] = {"type": "array", "items": name, "maxItems": len(names)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _messages(
    index: int, passages: list[str], characters: tuple[Character, ...]
) -> list[dict[str, str]]:
    known = "\n".join(f"- {c.name}: {c.description}" for c in characters) or "- nobody by name"
    before = " ".join(passages[max(0, index - 3) : index]) or "(the story begins)"
    request = f"Characters:\n{known}\n\nBefore: {before}\n\nPassage: {passages[index]}"
    return [{"role": "system", "content": _TASK}, {"role": "user", "content": request}]


def _panel_text(answer: Answer, names: list[str]) -> str:
    """Write an answer as a panel's text; characters that the picture does not name go in front."""
    words = " ".join(answer.picture.split())
    if not words:
        raise ValueError("the chat model describes an empty picture")
    there = {part.character for part in find_names(words, names)} - {None}
    missing = [name for name in dict.fromkeys(answer.characters) if name not in there]
    picture = escape(words)
    tags = " and ".join(f"[{name}]" for name in missing)
    if tags:
        return f"{tags}, {picture}"
    return picture if there or not names else f"[NC] {picture}"
