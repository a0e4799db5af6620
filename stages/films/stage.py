"""Stage 4: the film, the subtitles and the contact sheet of one story."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from storyreel.stages.films.config import FilmsConfig
from storyreel.stages.films.encoding import Label, encode_film
from storyreel.stages.films.fonts import Fonts
from storyreel.stages.films.frames import film_frames
from storyreel.stages.films.rendered_stories import RenderedShard, RenderedStory, naming
from storyreel.stages.films.sheet import FONT_SIZE, ContactSheet, plan_sheet
from storyreel.stages.films.subtitles import Cue, make_cues, to_srt, to_vtt
from storyreel.stages.output.records import File, Film
from storyreel.stages.output.storage import Output
from storyreel.stages.units import FilmUnit
from storyreel.stages.video import check_film

SHARDS_IN_MEMORY = 2


class FilmsStage:
    """Joins the clips of a story to its film.

    The units of a shard share its manifests, which are read once for all of them.
    """

    def __init__(self, *, output_url: str, config: FilmsConfig) -> None:
        """Open the output and load the font of the contact sheet.

        Raises:
            ValueError: the output cannot be opened, or the font cannot be read.
        """
        self._output = Output(output_url)
        self._config = config
        self._font = Fonts(config.sheet.font, FONT_SIZE)
        read_shard = partial(RenderedShard, self._output)
        self._shard = lru_cache(maxsize=SHARDS_IN_MEMORY)(read_shard)

    def __call__(self, unit: FilmUnit) -> tuple[Film]:
        """Make the film of a story that the manifests of its shard list.

        Raises:
            FileNotFoundError: a manifest of the shard is missing.
            ValueError: the story's records are incomplete, or as for `film_of`.
        """
        story = self._shard(unit.shard).story(unit.story_id)
        return (self.film_of(story, fingerprint=unit.fingerprint),)

    def film_of(self, story: RenderedStory, *, fingerprint: str) -> Film:
        """Make and publish the film, the subtitles and the contact sheet of a story.

        Args:
            story: its records; the keyframes and clips that they name are read from the output.
            fingerprint: of the job; written into the film's metadata.

        Raises:
            ValueError: a keyframe or clip is missing, damaged or differs from its record; the
                message names the story, the shot and the file.
        """
        cut = _Cut.of(story, self._config)
        with tempfile.TemporaryDirectory(prefix="films-") as name:
            film, sheet = self._encode(story, cut, Path(name), fingerprint=fingerprint)
            frames = check_film(film)
            assert frames == cut.num_frames, (story.story_id, frames, cut.num_frames)
            return self._publish(story.story_id, cut, film, sheet)

    def _encode(
        self, story: RenderedStory, cut: "_Cut", folder: Path, *, fingerprint: str
    ) -> tuple[Path, Path]:
        film, sheet_file = folder / "film.mp4", folder / "sheet.png"
        sheet = self._empty_sheet(story, cut)
        still_frames = cut.num_frames - cut.times[-1]
        frames = film_frames(self._output, story, folder=folder, still_frames=still_frames)
        encode_film(
            film,
            _copied_to_sheet(frames, sheet),
            cues=cut.cues,
            label=_label(story, fingerprint),
            config=self._config,
        )
        sheet.save(sheet_file)
        return film, sheet_file

    def _empty_sheet(self, story: RenderedStory, cut: "_Cut") -> ContactSheet:
        seconds = cut.num_frames / self._config.fps
        heading = f"{story.story_id} - {seconds:.1f} s, {cut.num_frames} frames"
        captions = [panel.caption for panel in story.panels]
        plan = plan_sheet(heading, captions, cut.times, self._config.sheet)
        width, height = story.size
        return ContactSheet(plan, aspect=height / width, font=self._font, config=self._config.sheet)

    def _publish(self, story_id: str, cut: "_Cut", film: Path, sheet: Path) -> Film:
        base = f"films/{story_id}"
        subtitles = self._output.publish(f"{base}.srt", to_srt(cut.cues).encode())
        web = self._output.publish(f"{base}.vtt", to_vtt(cut.cues).encode())
        picture = self._output.publish_file(f"{base}.png", sheet)
        video = self._output.publish_file(f"{base}.mp4", film)
        return _record(story_id, cut, self._config, files=(video, subtitles, picture, web))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """The timing of a film, in film frames; `times` holds the first frame of each keyframe."""

    times: tuple[int, ...]
    num_frames: int
    cues: tuple[Cue, ...]

    @classmethod
    def of(cls, story: RenderedStory, config: FilmsConfig) -> "_Cut":
        times = story.keyframe_times()
        still_frames = max(1, round(config.still_s * config.fps))
        num_frames = times[-1] + still_frames
        captions = [panel.caption for panel in story.panels]
        with naming(f"story {story.story_id}"):
            cues = make_cues(captions, times, num_frames, config.fps)
        return cls(times=tuple(times), num_frames=num_frames, cues=tuple(cues))


def _copied_to_sheet(frames: Iterator[np.ndarray], sheet: ContactSheet) -> Iterator[np.ndarray]:
    for index, frame in enumerate(frames):
        sheet.paste(index, frame)
        yield frame


def _label(story: RenderedStory, fingerprint: str) -> Label:
    comment = {
        "story_id": story.story_id,
        "keyframe_seeds": [keyframe.seed for keyframe in story.keyframes],
        "shot_seeds": [clip.seed for clip in story.clips],
        "fingerprint": fingerprint,
    }
    return Label(title=story.story_id, comment=json.dumps(comment, sort_keys=True))


def _record(
    story_id: str, cut: _Cut, config: FilmsConfig, *, files: tuple[File, File, File, File]
) -> Film:
    video, subtitles, sheet, web = files
    return Film(
        story_id=story_id,
        path=video.path,
        size=video.size,
        sha256=video.sha256,
        subtitles_path=subtitles.path,
        subtitles_size=subtitles.size,
        subtitles_sha256=subtitles.sha256,
        sheet_path=sheet.path,
        sheet_size=sheet.size,
        sheet_sha256=sheet.sha256,
        num_frames=cut.num_frames,
        fps=config.fps,
        duration_s=cut.num_frames / config.fps,
        width=config.width,
        height=config.height,
        web_subtitles_path=web.path,
        web_subtitles_size=web.size,
        web_subtitles_sha256=web.sha256,
    )
