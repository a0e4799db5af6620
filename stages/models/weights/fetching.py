"""Fetches the weights that a configuration names, for nodes that are offline at night."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download, snapshot_download

from storyreel.stages.errors import InputError
from storyreel.stages.models.config import ModelConfig, PartConfig, resolve, weights
from storyreel.stages.settings import Settings

TEXTS = ("*.json", "*.txt", "*.model")
"""Configurations and tokenizers."""


def fetch(config: Settings) -> Iterator[str]:
    """Fetch what is not on this machine yet, one place after the other; where each lies then.

    Only what will be loaded: safetensors of the configured variant, never a pickle.

    Raises:
        ValueError: a repository, revision or file cannot be fetched; the message names it.
    """
    seen: set[tuple[str | None, ...]] = set()
    for one in weights(config):
        key = tuple(getattr(one, name, None) for name in _PLACE)
        if key in seen:
            continue
        seen.add(key)
        if Path(resolve(one.path)).exists():
            yield f"{one.path}: on this machine"
            continue
        try:
            yield f"{one.path}: {_fetch(one)}"
        except (OSError, ValueError) as error:
            at = f" at {one.revision}" if one.revision else ""
            raise InputError(f"{one.path}{at}: cannot be fetched: {error}") from error


_PLACE = ("path", "revision", "variant", "subfolder", "weight_name")


def _fetch(one: Any) -> str:
    if isinstance(one, ModelConfig):
        # diffusers knows which files it will load.
        return str(
            DiffusionPipeline.download(
                one.path, revision=one.revision, variant=one.variant, use_safetensors=True
            )
        )
    if isinstance(one, PartConfig):
        assert one.path is not None
        below = f"{one.subfolder}/" if one.subfolder else ""
        marked = f"*.{one.variant}*.safetensors" if one.variant else "*.safetensors"
        patterns = [below + pattern for pattern in (*TEXTS, marked)]
        return snapshot_download(one.path, revision=one.revision, allow_patterns=patterns)
    return hf_hub_download(
        one.path, one.weight_name, subfolder=one.subfolder, revision=one.revision
    )
