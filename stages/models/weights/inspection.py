"""Checks that the files of a checkpoint hold what its configurations ask for, without loading it.

Models are built without memory for their weights, and the headers of the weight files are compared
with them: seconds instead of minutes, and no GPU.
"""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

LIBRARIES = ("diffusers", "transformers")


def check_pipeline(folder: Path, variant: str | None) -> int:
    """Check the parts of a pipeline; returns how many there are.

    Raises:
        ValueError: a part lacks weights, has some of another shape, or cannot be built; the message
            names the part.
        SafetensorError: a file is damaged.
    """
    parts = list(_parts(folder))
    for name, kind in parts:
        place = folder / name
        if not place.is_dir():
            raise ValueError(
                f"{folder}: model_index.json names {name}, but there is no such folder"
            )
        try:
            if hasattr(kind, "load_config") and (place / "config.json").is_file():
                _compare(kind.from_config, kind.load_config(place), place, variant)
            elif hasattr(kind, "config_class") and (place / "config.json").is_file():
                _compare(kind, kind.config_class.from_pretrained(place), place, variant)
            else:
                _check_without_weights(kind.from_pretrained(place))
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{place}: no {kind.__name__}: {error}") from error
    return len(parts)


def _parts(folder: Path) -> Iterator[tuple[str, Any]]:
    """The parts that a pipeline's index names, with their classes."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for name, value in index.items():
        if isinstance(value, list) and value[0] in LIBRARIES and name != "safety_checker":
            yield name, getattr(importlib.import_module(value[0]), value[1])


def _check_without_weights(part: Any) -> None:
    """Of a tokenizer, a scheduler, an image processor that could be loaded."""
    # transformers makes an empty tokenizer where its files are missing. CLIP's are byte-level, T5's
    # larger: none has fewer entries than there are bytes.
    if hasattr(part, "vocab_files_names") and len(part) < 256:
        raise KeyError(f"its vocabulary has {len(part)} entries")


def _compare(build: Any, config: Any, place: Path, variant: str | None) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(x.shape) for name, x in build(config).state_dict().items()}
    have = shapes_of(place, variant)
    # Files of transformers keep a level of names that its newer classes do not have.
    short = {name.removeprefix("text_model."): shape for name, shape in have.items()}
    missing = [name for name in wanted if name not in have and name not in short]
    if missing:
        raise ValueError(f"{place}: lacks {len(missing)} weights, such as {missing[0]}")
    for name, shape in wanted.items():
        found = have.get(name, short.get(name))
        if found != shape:
            raise ValueError(f"{place}: {name} is {found}, its config.json asks for {shape}")


def shapes_of(place: Path, variant: str | None) -> dict[str, tuple[int, ...]]:
    """The shapes in the weight files of a folder, those of the variant if there are some.

    Raises:
        ValueError: there is no weight file.
    """
    files = sorted(place.glob("*.safetensors"))
    marked = [file for file in files if variant is not None and f".{variant}" in file.name]
    plain = [file for file in files if len(file.suffixes) == 1]
    chosen = marked or plain
    if not chosen:
        raise ValueError(f"{place}: holds no .safetensors file")
    shapes: dict[str, tuple[int, ...]] = {}
    for file in chosen:
        with safe_open(file, framework="numpy") as weights:
            names = weights.keys()
            shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in names}
    return shapes
