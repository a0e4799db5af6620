"""Masks of the characters in keyframes, from a folder of segmentations."""

import io
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storyreel.stages.output.records import Panel
from storyreel.stages.output.storage import Output
from storyreel.stages.scoring.measures.tiles import Pixels


class CharacterMasks:
    """The masks of a folder: grey PNGs `STORY/0000.png`, named as the keyframes are."""

    def __init__(self, url: str) -> None:
        """Open a folder or URL.

        Raises:
            ValueError: it cannot be one.
        """
        self._folder = Output(url)

    def find(self, panel: Panel, picture: Pixels) -> NDArray[np.bool_] | None:
        """Where the characters are in a panel's picture (H, W, 3): (H, W), or none if the folder
        does not tell.

        Raises:
            ValueError: the mask is no PNG, or not as large as the picture.
        """
        path = str(PurePosixPath(panel.story_id) / f"{panel.keyframe_index:04d}.png")
        try:
            content = self._folder.read(path)
        except FileNotFoundError:
            return None
        height, width = picture.shape[:2]
        try:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                if image.size != (width, height):
                    raise ValueError(f"has size {image.size}, must be {(width, height)}")
                return np.asarray(image.convert("L")) > 127
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"mask {path} in {self._folder.url}: {error}") from error
