"""Images as cameras and programs write them."""

import io

import numpy as np
import pytest
from PIL import Image

from storyreel.stages.pictures import decode_reference


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return decode_reference(content.getvalue())[0]


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_a_depth_map_of_sixteen_bits_keeps_its_levels(top: int) -> None:
    levels = np.linspace(0, top, 128).astype(np.uint16)
    picture = decoded(Image.fromarray(np.tile(levels, (4, 1))))
    seen = np.asarray(picture)[0, :, 0]
    assert picture.mode == "RGB"
    assert (seen[0], seen[-1], len(np.unique(seen))) == (0, 255, 128)
    np.testing.assert_allclose(seen, levels * (255 / top), atol=1)


def test_other_kinds_of_images_keep_their_colours() -> None:
    red = Image.new("RGB", (4, 4), (200, 20, 20))
    for picture in (
        decoded(red.quantize(4)),
        decoded(red.convert("RGBA")).convert("RGB"),
        decoded(red.convert("CMYK"), "JPEG", quality=100),
    ):
        np.testing.assert_allclose(np.asarray(picture), np.asarray(red), atol=6)
    assert decoded(Image.new("1", (4, 4), 1)).getpixel((0, 0)) == (255, 255, 255)


def test_an_image_that_was_taken_on_its_side_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif).size == (4, 8)
