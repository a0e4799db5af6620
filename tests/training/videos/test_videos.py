"""Folders and tables of real videos: what is found in them, and clips of them on the disk."""

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from storyreel.training.videos.config import VideosConfig
from storyreel.training.videos.encoding import (
    ShardedRows,
    encode_shards,
    read_captions,
    read_clips,
    shards_of,
)
from storyreel.training.videos.index import IndexedVideo, index_videos, list_videos
from storyreel.training.videos.reading import Pixels, read_frames, square
from tests.training.videos.filmed import moving, write_video

CONFIG = VideosConfig(num_frames=4, fps=8, size=16, videos_per_shard=2)


def indexed(url: str, config: VideosConfig = CONFIG) -> list[IndexedVideo]:
    return list(index_videos(list_videos(url, config), config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos: eight frames, a cut after six of eleven, and one that is none."""
    write_video(tmp_path / "a.mp4", moving(8), fps=8)
    (tmp_path / "a.txt").write_text("a square\nmoves\n", encoding="utf-8")
    write_video(tmp_path / "b.mkv", [*moving(6), *(255 - frame for frame in moving(5))], fps=8)
    (tmp_path / "c.mp4").write_bytes(b"no video at all")
    (tmp_path / "notes.md").write_text("not a video")
    return tmp_path


def test_a_folder_is_indexed_with_captions_cuts_and_what_cannot_be_decoded(folder: Path) -> None:
    first, second, third = indexed(str(folder))
    assert first.url.endswith("a.mp4")
    assert (first.caption, first.starts, first.problem) == ("a square moves", (0, 4), "")
    assert (second.caption, second.starts) == ("", (0, 6))
    assert third.starts == ()
    assert "cannot be decoded" in third.problem


def test_clips_of_a_cut_video_are_of_one_side_of_the_cut(folder: Path) -> None:
    before, after = read_clips(indexed(str(folder))[1], CONFIG)
    assert before.shape == (4, 16, 16, 3)
    assert before.mean() < 100 < after.mean()


def test_a_table_names_its_videos_and_captions(folder: Path) -> None:
    table = pa.table({"file": ["a.mp4", str(folder / "b.mkv")], "text": ["one", None]})
    pq.write_table(table, folder / "videos.parquet")
    url = str(folder / "videos.parquet")
    config = CONFIG.model_copy(update={"path_column": "file", "caption_column": "text"})
    first, second = indexed(url, config)
    assert (first.caption, first.starts) == ("one", (0, 4))
    assert (second.caption, second.starts) == ("", (0, 6))
    with pytest.raises(ValueError, match="has no column 'path'; it has file, text"):
        list_videos(url, CONFIG)


def test_videos_of_any_file_system_are_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving(8), fps=8)
    with fsspec.open("memory://films/a.mp4", "wb") as file:
        file.write((tmp_path / "a.mp4").read_bytes())
    (only,) = indexed("memory://films")
    assert only.starts == (0, 4)


def test_faster_videos_are_thinned_and_slower_ones_left_out(tmp_path: Path) -> None:
    write_video(tmp_path / "fast.mp4", moving(24), fps=24)
    write_video(tmp_path / "slow.mp4", moving(8), fps=4)
    fast, slow = indexed(str(tmp_path))
    assert fast.starts == (0, 4)
    assert "has 4 frames a second, needed are 8" in slow.problem
    levels = [frame.mean() for frame in read_frames(str(tmp_path / "fast.mp4"), 8)]
    whole = [frame.mean() for frame in read_frames(str(tmp_path / "fast.mp4"), 24)]
    assert levels == whole[::3]


def test_a_video_without_a_long_enough_shot_says_so(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", moving(3), fps=8)
    (only,) = indexed(str(tmp_path))
    assert only.problem == "has no 4 frames between two cuts"
    with pytest.raises(ValueError, match=r"holds no video; allowed are \.avi"):
        list_videos("memory://nothing", CONFIG)


def test_the_middle_of_a_wide_frame_is_kept() -> None:
    frame = np.zeros((8, 24, 3), dtype=np.uint8)
    frame[:, 8:16] = 200
    assert (square(frame, 4) == 200).all()


def pooled(frames: Pixels) -> dict[str, Tensor]:
    return {"tokens": torch.from_numpy(frames.copy()).float().mean(dim=(1, 2))[:, None]}


def test_shards_are_read_as_one_tensor(folder: Path, tmp_path: Path) -> None:
    write_video(folder / "d.mp4", moving(12), fps=8)
    videos = indexed(str(folder))
    shards = shards_of(videos, CONFIG)
    assert [len(shard) for shard in shards] == [2, 1]
    paths = encode_shards(shards, tmp_path / "work", CONFIG, pooled)
    rows = ShardedRows(paths, "tokens")
    assert rows.shape == (7, 4, 1, 3)
    whole = rows[:]
    true = [clip for video in videos if video.starts for clip in read_clips(video, CONFIG)]
    expected = torch.stack([pooled(clip)["tokens"] for clip in true])
    torch.testing.assert_close(whole.float(), expected, atol=0.2, rtol=1e-3)
    picked = torch.tensor([6, 0, 4])
    assert torch.equal(rows[picked], whole[picked])
    assert torch.equal(rows[picked, 1:3], whole[picked, 1:3])
    assert read_captions(paths)[:3] == [["a square moves"], ["a square moves"], [""]]


def test_shards_that_are_there_are_not_encoded_again(folder: Path, tmp_path: Path) -> None:
    shards = shards_of(indexed(str(folder)), CONFIG)
    before = encode_shards(shards, tmp_path / "work", CONFIG, pooled)

    def never(frames: Pixels) -> dict[str, Tensor]:
        raise AssertionError("was encoded already")

    assert encode_shards(shards, tmp_path / "work", CONFIG, never) == before
