"""Reference images: only from where a story may point to, only pictures, only of a sane size."""

import base64
import dataclasses
import hashlib
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from benchmarks.object_store import BUCKET, serving
from storyreel.stages import pictures
from storyreel.stages.errors import StorageError
from storyreel.stages.input import references as references_module
from storyreel.stages.input.references import References
from storyreel.stages.output.access_config import ReferencesConfig
from storyreel.stages.output.records import Character, PanelInput, ShotKind, Story
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import decode_reference, read_reference


def png(width: int = 12, height: int = 8) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 40)).save(content, "PNG")
    return content.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that says, and holds, 81 megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 9_000, 9_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_126 * 9_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def story_with(image: str, source_file: Path | str) -> Story:
    character = Character(name="Fox", description="a fox", reference_image=image)
    return Story(
        story_id="fox",
        source_file=str(source_file),
        source_row=1,
        text="A fox.",
        panels=(),
        characters=(character,),
        style="",
        negative_prompt="",
        seed=0,
        duration_s=None,
    )


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """The file of the stories, with a picture beside it and one outside."""
    (tmp_path / "in" / "faces").mkdir(parents=True)
    (tmp_path / "in" / "faces" / "fox.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    return tmp_path / "in" / "stories.jsonl"


def adopt(image: str, stories: Path, **config: object) -> tuple[str, dict[str, bytes]]:
    """Where a story's image is below the output, and what was copied there."""
    kept: dict[str, bytes] = {}
    references = References(str(stories), ReferencesConfig.model_validate(config), kept.__setitem__)
    (character,) = references.adopt(story_with(image, stories)).characters
    assert character.reference_image is not None
    return character.reference_image, kept


def test_an_image_beside_the_stories_is_copied_under_its_content(
    stories: Path, tmp_path: Path
) -> None:
    path, kept = adopt("faces/fox.png", stories)
    assert path == f"references/{hashlib.sha256(png()).hexdigest()}.png"
    assert kept == {path: png()}
    output = Output(str(tmp_path / "job"))
    output.publish(path, kept[path])
    assert read_reference(output, path, "white").size == (12, 8)


def cut_out() -> Image.Image:
    """Rows of opaque red, of half of it, and of nothing over a hidden green."""
    picture = Image.new("RGBA", (4, 3), (0, 255, 0, 0))
    picture.paste((200, 0, 0, 255), (0, 0, 4, 1))
    picture.paste((200, 0, 0, 128), (0, 1, 4, 2))
    return picture


@pytest.mark.parametrize(
    ("background", "colours"),
    [
        ("white", [(200, 0, 0), (227, 127, 127), (255, 255, 255)]),
        ("black", [(200, 0, 0), (100, 0, 0), (0, 0, 0)]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_background_shows_where_a_picture_is_transparent(
    tmp_path: Path, kind: str, background: str, colours: list[tuple[int, int, int]]
) -> None:
    content = io.BytesIO()
    cut_out().save(content, kind, lossless=True, exact=True)
    output = Output(str(tmp_path))
    output.publish("fox.bin", content.getvalue())
    picture = read_reference(output, "fox.bin", background)
    assert picture.mode == "RGB"
    assert [picture.getpixel((2, row)) for row in range(3)] == colours


def test_the_colour_that_a_png_names_as_transparent_is(tmp_path: Path) -> None:
    for mode, colour in (("RGB", (0, 255, 0)), ("L", 40), ("P", 0)):
        content = io.BytesIO()
        Image.new(mode, (4, 4), colour).save(content, "PNG", transparency=colour)
        output = Output(str(tmp_path))
        output.publish(f"{mode}.png", content.getvalue())
        picture = read_reference(output, f"{mode}.png", "white")
        assert picture.getpixel((1, 1)) == (255, 255, 255)


def test_a_picture_without_transparency_is_as_it_was(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.publish("fox.png", png())
    picture = read_reference(output, "fox.png", "white")
    assert picture.tobytes() == Image.open(io.BytesIO(png())).convert("RGB").tobytes()


def test_an_image_in_a_data_uri_is_one(stories: Path) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    copy, kept = adopt(uri, stories)
    assert kept[copy] == png()
    for bad in ("data:text/html;base64,AA==", "data:image/png;base64,=A", "data:image/png,x"):
        with pytest.raises(ValueError, match=r"data URI|base64"):
            adopt(bad, stories)


def test_another_picture_under_the_same_name_is_another_job(stories: Path) -> None:
    before, _ = adopt("faces/fox.png", stories)
    (stories.parent / "faces" / "fox.png").write_bytes(png(13))
    assert adopt("faces/fox.png", stories)[0] != before


def test_a_panels_control_image_is_copied_as_the_characters_images_are(stories: Path) -> None:
    kept: dict[str, bytes] = {}
    references = References(str(stories), ReferencesConfig(), kept.__setitem__)
    panel = PanelInput(
        text="A fox.", caption=None, shot=ShotKind.MOTION, beats=None, control_image="faces/fox.png"
    )
    story = dataclasses.replace(story_with("faces/fox.png", stories), text=None, panels=(panel,))
    adopted = references.adopt(story)
    (path,) = kept
    assert adopted.panels[0].control_image == adopted.characters[0].reference_image == path
    outside = dataclasses.replace(panel, control_image="../secret.png")
    with pytest.raises(ValueError, match=r"panels\[1\]: control_image '\.\./secret\.png' must be"):
        references.adopt(dataclasses.replace(story, panels=(panel, outside)))


def test_an_image_that_many_stories_share_is_read_once(stories: Path) -> None:
    kept: list[str] = []
    references = References(
        str(stories), ReferencesConfig(), lambda path, content: kept.append(path)
    )
    for _ in range(3):
        references.adopt(story_with("faces/fox.png", stories))
    assert len(kept) == 1


REFUSED = [
    ("../secret.png", "must be a path inside"),
    ("/etc/hostname", "must be a path inside"),
    ("file:///etc/hostname", "must be a path inside"),
    ("http://127.0.0.1/fox.png", "must be a path inside"),
    ("zip://a.png::https://h/x.zip", "must be a path inside"),
    ("", "must be a path inside"),
    ("faces", "is not a file"),
    ("faces/cat.png", "is not a file"),
    ("https://169.254.169.254/latest/meta-data", "https_hosts allows none"),
    ("https://user:hunter2@example.org/fox.png", "https_hosts allows"),
    ("s3://others/fox.png", "s3_buckets allows none"),
]


@pytest.mark.parametrize(("image", "reason"), REFUSED)
def test_an_image_elsewhere_is_refused_by_name(image: str, reason: str, stories: Path) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        adopt(image, stories)
    assert "characters: 'Fox': reference_image" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_link_out_of_the_folder_is_not_followed(stories: Path, tmp_path: Path) -> None:
    (stories.parent / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="is a link that leaves"):
        adopt("link.png", stories)


def test_a_pipe_that_never_ends_is_no_image(stories: Path) -> None:
    os.mkfifo(stories.parent / "pipe.png")
    with pytest.raises(ValueError, match="is not a file"):
        adopt("pipe.png", stories)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254"])
def test_an_allowed_host_with_an_address_inside_is_refused(address: str, stories: Path) -> None:
    with pytest.raises(ValueError, match="is not a public one"):
        adopt(f"https://{address}/fox.png", stories, https_hosts=[address])


def test_a_host_that_is_away_is_no_fault_of_the_story(
    stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story would be refused for good, and another run would be another job."""
    monkeypatch.setattr(references_module, "PAUSE_S", 0.01)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        image = f"https://127.0.0.1:{probe.getsockname()[1]}/fox.png"
        with pytest.raises(StorageError, match=r"characters: 'Fox': reference_image .*refused"):
            adopt(image, stories, https_hosts=["127.0.0.1"], private_addresses=True)


def gif() -> bytes:
    content = io.BytesIO()
    Image.new("P", (4, 4)).save(content, "GIF")
    return content.getvalue()


def heavy() -> bytes:
    return png() + bytes(pictures.MAX_REFERENCE_BYTES)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bomb, "9000 x 9000 pixels, allowed are"),
        (gif, "not an image of an allowed format"),
        (heavy, "bytes, allowed are"),
        (lambda: b"<svg onload=alert(1)>", "not an image of an allowed format"),
        (lambda: png(400, 400)[:200], "cannot be decoded as an image"),
    ],
)
def test_what_is_no_sane_picture_is_refused(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_reference(make())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.filesystem("s3").clear_instance_cache()
    with serving() as (_, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.usefixtures("bucket")
def test_an_image_in_an_allowed_bucket_and_beside_stories_in_a_bucket_is_copied(
    stories: Path,
) -> None:
    faces = Output(f"s3://{BUCKET}/in")
    faces.publish("faces/fox.png", png())
    path, kept = adopt(f"s3://{BUCKET}/in/faces/fox.png", stories, s3_buckets=[BUCKET])
    assert kept == {path: png()}
    references = References(f"s3://{BUCKET}/in/s.jsonl", ReferencesConfig(), lambda p, c: None)
    (fox,) = references.adopt(story_with("faces/fox.png", f"{BUCKET}/in/s.jsonl")).characters
    assert fox.reference_image == path
