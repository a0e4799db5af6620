import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from storyreel.stages.films.config import FilmsConfig, Preset
from storyreel.stages.films.encoding import Label, encode_film
from storyreel.stages.films.frames import film_frames
from storyreel.stages.films.rendered_stories import RenderedShard
from storyreel.stages.films.stage import FilmsStage, FilmUnit
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import File
from storyreel.stages.video import check_film, read_clip
from tests.stages.films.conftest import cues_of, frames_of

CAPTIONS = ["Zo\u00eb wakes", "Zo\u00eb wakes", "", "\u041a\u043e\u043d\u0435\u0446"]
SHOTS = [16, 2, 8]
"""1 + 15 + 1 + 7 = 24 frames, the keyframes at 0, 15, 16 and 23."""


@pytest.fixture
def story(job: Any) -> Any:
    job.add_story("fox", CAPTIONS, SHOTS)
    return job


def test_a_film_has_each_shared_keyframe_once_and_every_frame_in_order(story: Any) -> None:
    film = story.film("fox", crf=1)
    frames = frames_of(story.folder / film.path)
    assert film.num_frames == len(frames) == check_film(story.folder / film.path) == 24
    grays = [frame[16, 24].mean() for frame in frames]
    due = [40 + g for g in [*np.linspace(0, 5, 16), *np.linspace(10, 15, 8)]]
    assert np.allclose(grays, due, atol=1.6)
    assert (film.fps, film.duration_s) == (8, 3.0)


def test_the_colours_of_a_film_are_those_of_the_clips(story: Any) -> None:
    film = story.film("fox", crf=1)
    assert np.allclose(frames_of(story.folder / film.path)[0][16, 8], (200, 20, 20), atol=4)
    with av.open(str(story.folder / film.path)) as container:
        frame = next(container.decode(video=0))
        codec = container.streams.video[0].codec_context
        assert (frame.format.name, frame.color_range, frame.colorspace) == ("yuv420p", 1, 1)
        assert (codec.name, codec.color_primaries, codec.color_trc) == ("h264", 1, 1)


def test_a_film_starts_to_play_before_it_is_fully_loaded(story: Any) -> None:
    content = (story.folder / story.film("fox").path).read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_the_files_of_a_film_are_the_same_bytes_every_time(story: Any) -> None:
    first = story.film("fox")
    again = story.film("fox")
    assert first == again
    for file in (
        File(path=again.path, size=again.size, sha256=again.sha256),
        File(path=again.subtitles_path, size=again.subtitles_size, sha256=again.subtitles_sha256),
        File(path=again.sheet_path, size=again.sheet_size, sha256=again.sheet_sha256),
    ):
        assert len(story.output.read_checked(file)) == file.size


def test_a_film_plays_at_the_frame_rate_and_size_of_the_config(story: Any) -> None:
    film = story.film("fox", fps=12, width=64, height=48, still_s=0.08)
    with av.open(str(story.folder / film.path)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.width, stream.height) == (12, 64, 48)
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([i / 12 for i in range(24)], abs=1e-3)
    assert film.duration_s == 2.0


def test_the_subtitles_are_a_track_of_the_film_that_players_can_decode(story: Any) -> None:
    film = story.film("fox")
    assert cues_of(story.folder / film.path) == [
        (0, 2000, "Zo\u00eb wakes"),
        (2875, 125, "\u041a\u043e\u043d\u0435\u0446"),
    ]


def test_subtitles_that_begin_late_do_not_shift_the_film(job: Any) -> None:
    job.add_story("late", ["", "", "two\nlines"], [9, 9])
    film = job.film("late")
    assert cues_of(job.folder / film.path) == [(2000, 125, "two\nlines")]
    with av.open(str(job.folder / film.path)) as container:
        assert next(container.decode(video=0)).time == 0


def test_the_srt_file_has_the_same_subtitles(story: Any) -> None:
    film = story.film("fox")
    assert (story.folder / film.subtitles_path).read_text(encoding="utf-8") == (
        "1\n00:00:00,000 --> 00:00:02,000\nZo\u00eb wakes\n\n"
        "2\n00:00:02,875 --> 00:00:03,000\n\u041a\u043e\u043d\u0435\u0446\n\n"
    )


def test_burned_captions_stand_in_the_frames_of_their_time_and_nowhere_else(story: Any) -> None:
    """Many players, and most places where films are shared, show no subtitle track."""
    size = {"width": 128, "height": 128, "crf": 1}
    plain = story.film("fox", **size)
    before = frames_of(story.folder / plain.path)
    burned = story.film("fox", burn_captions=True, **size)
    after = frames_of(story.folder / burned.path)
    changed = [np.abs(b.astype(int) - a).max() > 60 for a, b in zip(before, after, strict=True)]
    # The third keyframe has no caption: frames 16 to 22.
    assert changed == [True] * 16 + [False] * 7 + [True]
    assert np.abs(after[0][:96].astype(int) - before[0][:96]).max() < 60, "not only at the bottom"
    with av.open(str(story.folder / burned.path)) as container:
        assert not container.streams.subtitles
    assert burned.subtitles_size == plain.subtitles_size > 0


def test_a_story_without_captions_offers_no_subtitles(job: Any) -> None:
    job.add_story("silent", ["", ""], [4])
    film = job.film("silent")
    with av.open(str(job.folder / film.path)) as container:
        assert not container.streams.subtitles
    assert film.subtitles_size == 0


def test_a_film_says_what_it_was_made_from(story: Any) -> None:
    with av.open(str(story.folder / story.film("fox").path)) as container:
        assert container.metadata["title"] == "fox"
        assert json.loads(container.metadata["comment"]) == {
            "story_id": "fox",
            "keyframe_seeds": [100, 101, 102, 103],
            "shot_seeds": [200, 201, 202],
            "fingerprint": "f1n9e4",
        }


def test_a_story_of_one_keyframe_is_a_still(job: Any) -> None:
    job.add_story("still", ["Only one"], [])
    film = job.film("still", still_s=1.5)
    assert film.num_frames == len(frames_of(job.folder / film.path)) == 12
    assert cues_of(job.folder / film.path) == [(0, 1500, "Only one")]


def test_padding_shows_the_whole_picture_on_the_background(job: Any) -> None:
    job.add_story("wide", ["", ""], [4], size=(64, 32))
    film = job.film("wide", width=64, height=64, background="#0000ff", crf=1)
    frame = frames_of(job.folder / film.path)[0]
    assert np.allclose(frame[4, 32], (0, 0, 255), atol=6)
    assert np.allclose(frame[32, 8], (200, 20, 20), atol=6)
    assert np.allclose(frame[32, 56], 40, atol=6)


def test_cropping_fills_the_film_without_distortion(job: Any) -> None:
    job.add_story("wide", ["", ""], [4], size=(64, 32))
    film = job.film("wide", width=64, height=64, fit="crop", crf=1)
    frame = frames_of(job.folder / film.path)[0]
    assert np.allclose(frame[4, 8], (200, 20, 20), atol=6)
    assert np.allclose(frame[60, 56], 40, atol=6)


@pytest.mark.parametrize("bad", [{"fps": 7}, {"width": 33}, {"background": "red"}, {"fps_": 8}])
def test_a_config_that_gives_no_proper_film_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        FilmsConfig.model_validate(bad)


def test_a_clip_without_a_row_fails_the_story_by_name(story: Any) -> None:
    del story.clips[1]
    with pytest.raises(ValueError, match="story fox: clip of shot 1: missing"):
        story.film("fox")


def test_a_keyframe_without_a_row_fails_the_story_by_name(story: Any) -> None:
    del story.keyframes[2]
    with pytest.raises(ValueError, match="story fox: keyframe 2: missing"):
        story.film("fox")


def test_a_story_without_panels_fails_by_name(story: Any) -> None:
    with pytest.raises(ValueError, match="story wolf: panel 0: missing"):
        story.film("wolf")


def test_a_clip_whose_file_is_missing_fails_the_story_by_name(story: Any) -> None:
    (story.folder / "clips/fox/0001.mkv").unlink()
    with pytest.raises(ValueError, match=r"story fox: shot 1: clips/fox/0001\.mkv: missing"):
        story.film("fox")


def test_a_clip_that_was_changed_fails_the_story_by_name(story: Any) -> None:
    path = story.folder / "clips/fox/0002.mkv"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"story fox: shot 2: clips/fox/0002\.mkv: damaged"):
        story.film("fox")


def test_a_keyframe_that_was_changed_fails_the_story_by_name(story: Any) -> None:
    path = story.folder / "keyframes/fox/0003.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"story fox: keyframe 3: keyframes/fox/0003\.png: dam"):
        story.film("fox")


def test_a_clip_of_another_length_than_planned_fails_the_story_by_name(story: Any) -> None:
    story.shots[0] = dataclasses.replace(story.shots[0], num_frames=17)
    with pytest.raises(ValueError, match=r"story fox: shot 0: clips/fox/0000\.mkv has .*\(17,"):
        story.film("fox")


@pytest.mark.parametrize("shape", [(15, 32, 32), (17, 32, 32), (16, 32, 34)])
def test_a_clip_that_is_not_what_its_record_says_fails_the_story_by_name(
    story: Any, shape: tuple[int, int, int]
) -> None:
    story.replace_clip(0, np.full((*shape, 3), 40, np.uint8))
    with pytest.raises(ValueError, match=r"story fox: shot 0: clips/fox/0000\.mkv: "):
        story.film("fox")


@pytest.mark.parametrize(("frame", "keyframe"), [(0, 2), (7, 3)])
def test_a_clip_that_does_not_join_on_its_keyframes_fails_the_story_by_name(
    story: Any, frame: int, keyframe: int
) -> None:
    frames = np.stack(list(read_clip(story.folder / "clips/fox/0002.mkv")))
    frames[frame, 0, 0] += 1
    story.replace_clip(2, frames)
    message = rf"shot 2: clips/fox/0002\.mkv: frame {frame} is not .* keyframe {keyframe}"
    with pytest.raises(ValueError, match=f"story fox: {message}"):
        story.film("fox")


def test_a_failed_film_leaves_nothing_published(story: Any) -> None:
    (story.folder / "clips/fox/0002.mkv").unlink()
    with pytest.raises(ValueError, match="fox"):
        story.film("fox")
    assert not (story.folder / "films").exists()


def test_a_bad_story_does_not_harm_its_neighbour(story: Any) -> None:
    story.add_story("owl", ["", ""], [4])
    (story.folder / "clips/fox/0002.mkv").unlink()
    assert story.film("owl").num_frames == 4


def test_the_manifests_of_a_shard_are_read_once_for_all_its_stories(story: Any) -> None:
    story.add_story("owl", ["", ""], [4])
    story.film("fox")
    config = FilmsConfig(width=32, height=32, still_s=0.125)
    stage = FilmsStage(output_url=str(story.folder), config=config)
    shard = Shard(index=0, count=1)
    stage(FilmUnit(story_id="fox", shard=shard, fingerprint=""))
    (story.folder / f"manifests/clips/{shard}.parquet").unlink()
    (film,) = stage(FilmUnit(story_id="owl", shard=shard, fingerprint=""))
    assert film.num_frames == 4


def test_a_minute_never_sits_in_memory(job: Any) -> None:
    job.add_story("long", [""] * 9, [16] * 8, size=(128, 128))
    job.seal()
    shard = RenderedShard(job.output, Shard(index=0, count=1))
    frames = film_frames(job.output, shard.story("long"), folder=job.folder, still_frames=1)
    tracemalloc.start()
    num_frames = sum(1 for _ in frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_frames == 121
    assert peak < 121 * 128 * 128 * 3 / 8


def test_the_encoder_takes_a_frame_at_a_time(tmp_path: Path) -> None:
    config = FilmsConfig(width=128, height=128, preset=Preset.ULTRAFAST)
    frame_size = 128 * 128 * 3
    frames = (np.full((128, 128, 3), i, np.uint8) for i in range(200))
    tracemalloc.start()
    label = Label(title="long", comment="")
    encode_film(tmp_path / "film.mp4", frames, cues=(), label=label, config=config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * frame_size
    assert check_film(tmp_path / "film.mp4") == 200
