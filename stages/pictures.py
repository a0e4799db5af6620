"""The pictures of keyframes as clips and films show them."""

import io

import numpy as np
from PIL import Image

from stages.records import File, Keyframe
from stages.storage import Output


def read_picture(output: Output, keyframe: Keyframe, width: int, height: int) -> np.ndarray:
    """A keyframe's image, checked, at a clip's size: uint8 (height, width, 3) in RGB.

    A video model may need another size than the image model; whoever shows the keyframe beside the
    clip's frames gets the same pixels from here.

    Raises:
        ValueError: the file is missing, damaged, or not what its record says.
    """
    file = File(path=keyframe.path, size=keyframe.size, sha256=keyframe.sha256)
    with Image.open(io.BytesIO(output.read_checked(file))) as image:
        if image.size != (keyframe.width, keyframe.height):
            raise ValueError(f"{keyframe.path}: size {image.size}, its record says otherwise")
        picture = image.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(picture)
