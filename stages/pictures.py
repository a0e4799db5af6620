"""The pictures of keyframes as clips and films show them, and the pictures that users bring."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from storyreel.stages.output.records import File, Keyframe
from storyreel.stages.output.storage import Output

REFERENCE_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Kinds of pictures that a user may bring, with the ends of their names."""

MAX_REFERENCE_BYTES = 32 << 20
MAX_REFERENCE_PIXELS = 50_000_000


def read_picture(output: Output, keyframe: Keyframe, width: int, height: int) -> np.ndarray:
    """A keyframe's image, checked, at a clip's size: uint8 (height, width, 3) in RGB.

    A video model may need another size than the image model; whoever shows the keyframe beside the
    clip's frames gets the same pixels from here.

    Raises:
        ValueError: the file is missing, damaged, or not what its record says.
    """
    file = File(path=keyframe.path, size=keyframe.size, sha256=keyframe.sha256)
    with Image.open(io.BytesIO(output.read_checked(file)), formats=["PNG"]) as image:
        if image.size != (keyframe.width, keyframe.height):
            raise ValueError(f"{keyframe.path}: size {image.size}, its record says otherwise")
        picture = image.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(picture)


def read_reference(output: Output, path: str, background: str) -> Image.Image:
    """A picture that was copied into the output: upright, in RGB.

    Args:
        output: where it is.
        path: of the copy, below the output.
        background: the colour that shows where the picture is transparent, such as "white".

    Raises:
        ValueError: it is missing, no picture of an allowed kind, or too large.
    """
    try:
        content = output.read(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: missing from {output.url}") from None
    picture = decode_reference(content)[0]
    if picture.mode == "RGB":
        return picture
    canvas = Image.new("RGBA", picture.size, background)
    return Image.alpha_composite(canvas, picture).convert("RGB")


def decode_reference(content: bytes) -> tuple[Image.Image, str]:
    """A picture that a user brought, upright, and how the name of its file ends.

    It is in RGBA if any of it may be transparent, else in RGB. Its size is looked at before its
    pixels are unpacked.

    Raises:
        ValueError: it is no picture of an allowed kind, or too large.
    """
    if len(content) > MAX_REFERENCE_BYTES:
        raise ValueError(f"has {len(content)} bytes, allowed are {MAX_REFERENCE_BYTES}")
    try:
        with Image.open(io.BytesIO(content), formats=list(REFERENCE_FORMATS)) as image:
            width, height = image.size
            if width * height > MAX_REFERENCE_PIXELS:
                allowed = f"allowed are {MAX_REFERENCE_PIXELS} pixels"
                raise ValueError(f"is of {width} x {height} pixels, {allowed}")
            mode = "RGBA" if image.has_transparency_data else "RGB"
            picture = ImageOps.exif_transpose(image).convert(mode)
            return picture, REFERENCE_FORMATS[str(image.format)]
    except UnidentifiedImageError:
        kinds = ", ".join(REFERENCE_FORMATS)
        raise ValueError(f"is no picture of a known kind; allowed are {kinds}") from None
    # Damaged pictures raise whatever their decoder happens to stumble over.
    except Exception as error:
        raise ValueError(f"cannot be read as a picture: {error}") from error
