"""Reads the pictures that rendered ones are compared with."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def check_has_pictures(url: str) -> None:
    """Raise ValueError if there is no picture below a folder or URL."""
    _find(url)


def reference_pictures(url: str) -> Iterator[NDArray[np.uint8]]:
    """Read the pictures below a folder or URL, uint8 (H, W, 3) in RGB, one at a time, in order.

    Raises:
        ValueError: there is no picture, or one cannot be read; names it.
    """
    filesystem, paths = _find(url)
    return (_read(filesystem, path) for path in paths)


def _find(url: str) -> tuple[Any, list[str]]:
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        paths = [path for path in sorted(filesystem.find(root)) if _is_picture(path)]
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"reference {url}: {error}") from error
    if not paths:
        allowed = ", ".join(sorted(SUFFIXES))
        raise ValueError(f"reference {url}: holds no picture ({allowed})")
    return filesystem, paths


def _is_picture(path: str) -> bool:
    return PurePosixPath(path).suffix.casefold() in SUFFIXES


def _read(filesystem: Any, path: str) -> NDArray[np.uint8]:
    try:
        with filesystem.open(path, "rb") as file, Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"reference {path}: cannot be read: {error}") from error
