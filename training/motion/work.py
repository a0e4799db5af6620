"""The work folder of a run: bound to one configuration and one set of videos, and its index."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from storyreel.stages.errors import InputError
from storyreel.stages.output.serialization import from_table, to_table
from storyreel.training.motion.config import MotionTrainingConfig
from storyreel.training.videos.index import IndexedVideo

CONFIG = "config.json"
INDEX = "index.parquet"
FREE = {"workers", "validate_every"}
"""What may differ between the starts of a run."""


def claim(work: Path, config: MotionTrainingConfig, url: str) -> None:
    """Begin a run in a folder, or go on with it.

    Raises:
        InputError: the folder holds a run of another configuration or of other videos.
    """
    settings = f"{url}\n{config.model_dump_json(indent=1, exclude=FREE)}\n"
    path = work / CONFIG
    work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _replace(path, settings.encode())
    if path.read_text(encoding="utf-8") != settings:
        raise InputError(
            f"--output {work}: holds a run of another configuration or of other videos ({CONFIG});"
            " go on with that one, or name another folder"
        )


def write_index(work: Path, index: Sequence[IndexedVideo]) -> None:
    """Write the index whole or not at all."""
    temporary = work / f"partial-{INDEX}"
    pq.write_table(to_table(IndexedVideo, index), temporary)
    temporary.replace(work / INDEX)


def read_index(work: Path) -> list[IndexedVideo] | None:
    """The index, if it was written."""
    if not (work / INDEX).exists():
        return None
    return from_table(IndexedVideo, pq.read_table(work / INDEX))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"partial-{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)
