"""Which pretrained weights a stage uses; importing this loads none, and no library that could."""

import hashlib
from pathlib import Path
from typing import Literal

from stages.settings import Settings
from stages.storage import checksum

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""Holds the packages, and beside them the bundled `models/` and `configs/`."""


class ModelConfig(Settings):
    """Which weights, and how they are held on the worker."""

    path: str = "models/pocket"
    """A bundled folder, a local folder, or a repository of the hub."""
    revision: str | None = None
    """Commit of a hub repository; pin it, so that a job's nights render alike."""
    variant: str | None = None
    """Variant of the weight files, such as "fp16"."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"


def resolve(path: str) -> str:
    """The bundled folder of that name if there is one, else `path` as it stands."""
    bundled = PACKAGE_ROOT / path
    return str(bundled) if bundled.is_dir() else path


def model_revision(config: ModelConfig) -> str:
    """What pins the weights: the hash of a local folder's files, or a hub repository's commit."""
    folder = Path(resolve(config.path))
    if not folder.is_dir():
        return f"{config.path}@{config.revision}"
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt"):
            content.update(f"{path.relative_to(folder)}\n{checksum(path)}\n".encode())
    return content.hexdigest()
