"""Renders single stories in this process: no Ray, no Prefect, no job.

The stages are those of a job, so a story that is rendered here has the same pixels.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import torch
from PIL import Image

from storyreel.flows.job.config import load_config
from storyreel.flows.job.layout import check_panels
from storyreel.flows.job.stages import STAGES
from storyreel.stages.films.rendered_stories import RenderedStory
from storyreel.stages.films.stage import FilmsStage
from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.references import References
from storyreel.stages.input.story_rows import to_story
from storyreel.stages.output.records import Clip, Film, Keyframe, Story, Storyboard
from storyreel.stages.output.storage import Output
from storyreel.stages.units import KeyframesUnit, MotionUnit, Stage

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the units that are done, and the units in all."""

NOT_A_JOB = "rendered without a job"
"""In the metadata of films, in place of a job's fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    """The keyframes of a story, kept so that its film does not render them again."""

    story: Story
    storyboard: Storyboard
    keyframes: tuple[Keyframe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFilm:
    """The files of a film, side by side: video, subtitles and contact sheet."""

    path: Path
    subtitles_path: Path
    sheet_path: Path
    num_frames: int
    duration_s: float


def make_story(story_id: str = "story", **fields: Any) -> Story:
    """A story from the fields of an input row.

    Args:
        story_id: names the story's files: letters, digits, `.`, `_`, `-`.
        **fields: `text` (prose) or `panels` (a list of texts or mappings), and optionally
            `characters`, `style`, `negative_prompt`, `seed`, `duration_s`, as in an input file.

    Raises:
        ValueError: a field is unknown or not allowed; the message names it.
    """
    row = {"story_id": story_id, **fields}
    return to_story(row, source_file="", source_row=1, limits=InputConfig())


class Renderer:
    """Renders stories with one configuration; models are loaded on first use and kept.

    Args:
        config: name of a bundled configuration (pocket, sd15, sd21, sdxl) or a TOML file.
        profile: name of a bundled profile (draft, fast, paper) or a TOML file laid over it.
        overrides: single values such as `"films.fps=12"`.
        images: folder or URL that the `reference_image` and `control_image` of stories are
            relative to.

    Raises:
        ValueError: the configuration is not valid; names the key, the value and what is allowed.
    """

    def __init__(
        self,
        config: str = "pocket",
        *,
        profile: str | None = None,
        overrides: Sequence[str] = (),
        images: str = ".",
    ) -> None:
        self._config = load_config(config, profile=profile, overrides=overrides)
        # The stages publish files; they go with this object.
        folder = tempfile.mkdtemp(prefix="storyreel-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._output = Output(folder)
        self._images = str(fsspec.core.url_to_fs(images)[1]).rstrip("/")
        self._references = References(images, self._config.references, self._output.publish)
        self._rendered: dict[str, _Rendered] = {}

    @cached_property
    def _prompts_stage(self) -> Stage:
        return self._construct("prompts")

    @cached_property
    def _keyframes_stage(self) -> Stage:
        return self._construct("keyframes")

    @cached_property
    def _motion_stage(self) -> Stage:
        return self._construct("motion")

    @cached_property
    def _films_stage(self) -> FilmsStage:
        return FilmsStage(output_url=self._output.url, config=self._config.films)

    def _construct(self, name: str) -> Stage:
        """The stage that a worker of a job would construct."""
        return STAGES[name].factory(self._output.url, self._config)()

    def storyboard(self, story: Story) -> Storyboard:
        """The panels of a story, one per keyframe, and the shots between them."""
        return self._storyboard(self._adopt(story))

    def _storyboard(self, adopted: Story) -> Storyboard:
        storyboard: Storyboard
        (storyboard,) = self._prompts_stage(adopted)
        return storyboard

    def _adopt(self, story: Story) -> Story:
        """Copy the pictures of a story as a job does, before its panels take over their paths."""
        check_panels(story, self._config.keyframes)
        if not story.source_file:  # pictures are looked for beside the story's file
            story = replace(story, source_file=f"{self._images}/")
        return self._references.adopt(story)

    def keyframes(self, story: Story) -> list[Image.Image]:
        """Render the keyframes of a story together, with Consistent Self-Attention.

        Returns:
            An RGB image per panel, of the configured width and height.

        Raises:
            ValueError: a reference image cannot be read, or the model gave no finite values.
        """
        with _num_threads(self._config.num_threads):
            keyframes = self._render_keyframes(story).keyframes
        return [self._image(keyframe) for keyframe in keyframes]

    def film(
        self, story: Story, path: str | Path, progress: Progress | None = None
    ) -> RenderedFilm:
        """Render a story to a film; keyframes that were rendered before are used again.

        Args:
            story: what to render.
            path: where to put the video, an MP4; subtitles (`.srt`) and contact sheet (`.png`)
                go beside it. Files that are there are replaced.
            progress: called after every unit.

        Raises:
            ValueError: as `keyframes`; or the models cannot render clips of this length or size.
        """
        with _num_threads(self._config.num_threads):
            film = self._render_film(story, progress or _ignore)
        return self._copy(film, Path(path))

    def _render_film(self, story: Story, report: Progress) -> Film:
        rendered = self._render_keyframes(story)
        storyboard, keyframes = rendered.storyboard, rendered.keyframes
        report("keyframes", 1, 1)
        clips: list[Clip] = []
        for shot, (first, last) in zip(storyboard.shots, pairwise(keyframes), strict=True):
            unit = MotionUnit(shot=shot, first=first, last=last, fps=self._config.films.fps)
            clips += self._motion_stage(unit)
            report("motion", len(clips), len(storyboard.shots))
        film = self._assemble(storyboard, keyframes, clips)
        # Clips are lossless, far larger than the film; the keyframes may be asked for again.
        self._output.remove_folder(f"clips/{story.story_id}")
        report("films", 1, 1)
        return film

    def _render_keyframes(self, story: Story) -> _Rendered:
        known = self._rendered.get(story.story_id)
        if known is not None and known.story == story:
            return known
        adopted = self._adopt(story)
        storyboard = self._storyboard(adopted)
        keyframes = self._keyframes_stage(KeyframesUnit.of(adopted, storyboard.panels))
        rendered = _Rendered(story=story, storyboard=storyboard, keyframes=keyframes)
        self._rendered[story.story_id] = rendered
        return rendered

    def _assemble(
        self, storyboard: Storyboard, keyframes: Sequence[Keyframe], clips: Sequence[Clip]
    ) -> Film:
        rendered = RenderedStory.of(
            storyboard.story_id,
            panels=storyboard.panels,
            shots=storyboard.shots,
            keyframes=keyframes,
            clips=clips,
        )
        return self._films_stage.film_of(rendered, fingerprint=NOT_A_JOB)

    def _copy(self, film: Film, path: Path) -> RenderedFilm:
        path.parent.mkdir(parents=True, exist_ok=True)
        sources = (film.path, film.subtitles_path, film.sheet_path)
        targets = (path, path.with_suffix(".srt"), path.with_suffix(".png"))
        for source, target in zip(sources, targets, strict=True):
            shutil.copyfile(self._output.location(source), target)
        return RenderedFilm(
            path=targets[0],
            subtitles_path=targets[1],
            sheet_path=targets[2],
            num_frames=film.num_frames,
            duration_s=film.duration_s,
        )

    def _image(self, keyframe: Keyframe) -> Image.Image:
        with Image.open(self._output.location(keyframe.path)) as image:
            return image.convert("RGB")


@contextmanager
def _num_threads(count: int) -> Iterator[None]:
    """Inside, PyTorch uses `count` threads, as an actor of a job does: sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ignore(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""
