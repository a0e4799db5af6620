"""Reads images: keyframes at the size of clips, and reference images that users provide."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from storyreel.stages.output.records import File, Keyframe
from storyreel.stages.output.storage import Output

REFERENCE_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Allowed formats of users' images, by their Pillow names, with their file suffixes."""

MAX_REFERENCE_BYTES = 32 << 20
MAX_REFERENCE_PIXELS = 50_000_000


def read_picture(output: Output, keyframe: Keyframe, width: int, height: int) -> np.ndarray:
    """Read a keyframe's image, resized to the size of a clip.

    The video model may need another size than the image model. Motion and films both read keyframes
    here, so that a film shows the pixels that the clip starts from.

    Returns:
        uint8 (height, width, 3) in RGB.

    Raises:
        ValueError: the file is missing or damaged, or its size differs from the record's.
    """
    file = File(path=keyframe.path, size=keyframe.size, sha256=keyframe.sha256)
    with Image.open(io.BytesIO(output.read_checked(file)), formats=["PNG"]) as image:
        if image.size != (keyframe.width, keyframe.height):
            raise ValueError(f"{keyframe.path}: size {image.size} differs from that of its record")
        picture = image.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(picture)


def read_reference(output: Output, path: str, background: str) -> Image.Image:
    """Read an image that a user provided and the job copied into the output: upright, in RGB.

    Args:
        output: the output of the job.
        path: the copy, relative to the output.
        background: colour behind transparent pixels, such as "white".

    Raises:
        ValueError: it is missing, not an image of an allowed format, or too large.
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
    """Decode an image that a user provided.

    Its size is checked before its pixels are decompressed.

    Returns:
        The image, turned upright as its EXIF data says, in RGBA if it has transparency, else in
        RGB; and the suffix for its file.

    Raises:
        ValueError: it is not an image of an allowed format, or too large.
    """
    if len(content) > MAX_REFERENCE_BYTES:
        raise ValueError(f"has {len(content)} bytes, allowed are {MAX_REFERENCE_BYTES}")
    try:
        with Image.open(io.BytesIO(content), formats=list(REFERENCE_FORMATS)) as image:
            width, height = image.size
            if width * height > MAX_REFERENCE_PIXELS:
                allowed = f"allowed are {MAX_REFERENCE_PIXELS} pixels"
                raise ValueError(f"has {width} x {height} pixels, {allowed}")
            mode = "RGBA" if image.has_transparency_data else "RGB"
            picture = _with_eight_bits(ImageOps.exif_transpose(image)).convert(mode)
            return picture, REFERENCE_FORMATS[str(image.format)]
    except UnidentifiedImageError:
        formats = ", ".join(REFERENCE_FORMATS)
        raise ValueError(f"is not an image of an allowed format ({formats})") from None
    # Pillow's decoders raise many exceptions, also private ones, for damaged files.
    except Exception as error:
        raise ValueError(f"cannot be decoded as an image: {error}") from error


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits, such as a depth map, with its levels; Pillow would cut them off at 255.

    How many of the 16 bits are in use, cameras and programs do not write: the highest level tells.
    """
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image, dtype=np.float64)
    top = next(top for top in (255, 1023, 4095, 65535, np.inf) if levels.max() <= top)
    if top == np.inf:
        top = levels.max()
    return Image.fromarray(np.round(levels.clip(0) * 255 / top).astype(np.uint8))
