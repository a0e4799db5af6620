from pathlib import Path

import av
import numpy as np
import pytest

from storyreel.stages.video import check_film, read_clip, write_clip


def noise(num_frames: int = 5, height: int = 32, width: int = 48) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 32, 48), (1, 32, 32), (3, 31, 17)])
def test_a_clip_comes_back_pixel_for_pixel(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    frames = noise(*shape)
    write_clip(tmp_path / "clip.mkv", frames, 8)
    assert np.array_equal(np.stack(list(read_clip(tmp_path / "clip.mkv"))), frames)


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", noise(), 8)
    write_clip(tmp_path / "b.mkv", noise(), 8)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_a_clip_plays_at_its_frame_rate(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", noise(), 12)
    with av.open(str(tmp_path / "clip.mkv")) as container:
        assert container.streams.video[0].average_rate == 12


def test_frames_that_are_not_a_non_empty_rgb_video_are_refused(tmp_path: Path) -> None:
    for frames in (noise().astype(np.float32), noise()[0], noise()[..., :1], noise()[:0]):
        with pytest.raises(ValueError, match="must be uint8"):
            write_clip(tmp_path / "clip.mkv", frames, 8)


def test_a_clip_is_read_frame_by_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", noise(), 8)
    content = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(content[: len(content) * 2 // 3])
    assert np.array_equal(next(read_clip(tmp_path / "clip.mkv")), noise()[0])


@pytest.mark.parametrize("kept", [0.0, 0.005, 0.3, 0.5, 0.9, 0.98])
def test_a_truncated_clip_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, noise(), 8)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"clip\.mkv: damaged"):
        list(read_clip(path))


def test_no_flipped_byte_gives_other_pixels_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, noise(), 8)
    content = path.read_bytes()
    for position in [*range(0, 600, 13), *range(600, len(content), 997)]:
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        )
        try:
            frames = np.stack(list(read_clip(path)))
        except ValueError:
            continue
        assert np.array_equal(frames, noise()), position


def test_a_missing_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        list(read_clip(tmp_path / "clip.mkv"))


def write_film(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_the_check_of_a_film_counts_its_frames(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", noise(7))
    assert check_film(tmp_path / "film.mp4") == 7


def test_the_check_of_a_film_finds_frames_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, noise(7))
    content = path.read_bytes()
    middle = (content.index(b"mdat") + len(content)) // 2
    path.write_bytes(content[:middle].ljust(len(content), b"\0"))
    with pytest.raises(ValueError, match=r"film\.mp4: damaged"):
        check_film(path)
    path.write_bytes(content[:middle])
    with pytest.raises(ValueError, match=r"film\.mp4: damaged"):
        check_film(path)
