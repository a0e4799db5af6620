"""The motion stage: one shot with its two keyframes in, a published clip out."""

import tempfile
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from storyreel.stages.models.denoising import use_deterministic_kernels
from storyreel.stages.motion.config import (
    DissolveConfig,
    FirstLastFrameConfig,
    ImagePromptConfig,
    LatentInterpolationConfig,
    MotionConfig,
    SemanticMotionConfig,
    SparseControlConfig,
)
from storyreel.stages.motion.ends import match_ends
from storyreel.stages.motion.flaws import find_flaw
from storyreel.stages.motion.frames import (
    Pixels,
    cut,
    dissolve,
    endpoint_closeness,
    endpoint_jump,
    hold,
    resampled,
    to_image,
    to_pixels,
)
from storyreel.stages.motion.renderer import Transition, TransitionRenderer
from storyreel.stages.motion.renderers.baselines import Dissolve, LatentInterpolation
from storyreel.stages.motion.renderers.first_last_frame import FirstLastFrameRenderer
from storyreel.stages.motion.renderers.image_prompt import ImagePromptRenderer
from storyreel.stages.motion.renderers.semantic_motion import SemanticMotionRenderer
from storyreel.stages.motion.renderers.sparse_control import SparseControlRenderer
from storyreel.stages.motion.windows import WindowedRenderer
from storyreel.stages.output.records import Clip, File, Keyframe, Shot, ShotKind
from storyreel.stages.output.storage import Output
from storyreel.stages.pictures import read_picture
from storyreel.stages.seeds import derive_seed
from storyreel.stages.units import MotionUnit
from storyreel.stages.video import write_clip

__all__ = ["MotionConfig", "MotionStage", "MotionUnit"]

MIN_FRAMES = 4
"""Both keyframes and two frames between, so that there is a change between generated frames."""


class MotionStage:
    """Makes the clip of a shot; a stage that exists has its models loaded."""

    def __init__(self, *, output_url: str, config: MotionConfig) -> None:
        """Load the models.

        Raises:
            ValueError: the models cannot render clips of this length or size, or cannot render
                clips at all.
        """
        use_deterministic_kernels()
        self._config = config
        self._output = Output(output_url)
        self._renderer: TransitionRenderer = WindowedRenderer(
            build_renderer(config), config.batch_size
        )
        self._degraded = False
        self._check_num_frames("motion.num_frames", config.num_frames)

    def smaller(self) -> "MotionStage":
        """The same stage on the same models, with less memory; its clips are `degraded`."""
        smaller = copy(self)
        smaller._renderer = self._renderer.smaller()
        smaller._degraded = True
        return smaller

    def __call__(self, unit: MotionUnit) -> tuple[Clip]:
        """Publish the clip of `unit`, the keyframes' pictures exactly as its first and last frame.

        Raises:
            ValueError: a keyframe is damaged, the keyframes differ in size, the models cannot
                render this length or size, or gave values that are not finite; the message names
                the story and the shot.
        """
        shot, place = unit.shot, f"story {unit.shot.story_id}: shot {unit.shot.shot_index}"
        assert unit.first.keyframe_index == shot.shot_index
        assert unit.last.keyframe_index == shot.shot_index + 1
        try:
            first, last = self._read(unit.first), self._read(unit.last)
            _check_sizes(first, last)
            if shot.kind is not ShotKind.MOTION:
                return (self._clip(unit, _laid_out(shot, first, last)),)
            rendered = self._render(unit, first, last)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        assert rendered.frames is not None
        return (
            replace(
                self._clip(unit, rendered.frames),
                seed=rendered.seed,
                flaw=rendered.flaw,
                endpoint_closeness=rendered.closeness,
                endpoint_jump=endpoint_jump(rendered.frames),
            ),
        )

    def _read(self, keyframe: Keyframe) -> Pixels:
        width, height = self._config.width, self._config.height
        return read_picture(
            self._output, keyframe, width or keyframe.width, height or keyframe.height
        )

    def _render(self, unit: MotionUnit, first: Pixels, last: Pixels) -> "_Rendered":
        """Render the shot, and once more with another seed if a viewer would not accept it."""
        self._check_num_frames("num_frames", unit.shot.num_frames)
        attempts = []
        for seed in (unit.shot.seed, derive_seed("again", unit.shot.seed)):
            attempts.append(self._attempt(unit, first, last, seed))
            if not attempts[-1].flaw:
                return attempts[-1]
        shown = [attempt for attempt in attempts if attempt.frames is not None]
        if not shown:
            raise ValueError(attempts[-1].flaw)
        return shown[0]

    def _attempt(self, unit: MotionUnit, first: Pixels, last: Pixels, seed: int) -> "_Rendered":
        shot = unit.shot
        transition = Transition(
            first=to_image(first),
            last=to_image(last),
            text=shot.text,
            negative_prompt=shot.negative_prompt,
            seed=seed,
            num_frames=self._num_rendered(shot.num_frames, unit.fps),
            guidance_scale=shot.guidance_scale,
        )
        (frames,) = self._renderer([transition])
        if not frames.isfinite().all():
            return _Rendered(seed=seed, flaw="the model gave values that are not finite")
        matched = to_pixels(match_ends(frames, transition.first, transition.last))
        return _Rendered(
            seed=seed,
            flaw=find_flaw(matched),
            closeness=endpoint_closeness(to_pixels(frames[[0, -1]]), first, last),
            frames=resampled(matched, shot.num_frames),
        )

    def _num_rendered(self, num_frames: int, fps: int) -> int:
        """The frames that the model renders for so many of the film."""
        rate = self._config.fps or fps
        return max(MIN_FRAMES, 1 + round((num_frames - 1) * rate / fps))

    def _check_num_frames(self, name: str, num_frames: int) -> None:
        most = self._renderer.max_frames  # at the model's rate, which is the lower one
        if not MIN_FRAMES <= num_frames <= most:
            raise ValueError(f"{name}: {num_frames}, allowed are {MIN_FRAMES} to {most} frames")

    def _clip(self, unit: MotionUnit, frames: Pixels) -> Clip:
        """Publish frames as the clip of a unit."""
        file, (num_frames, height, width, _) = self._publish(unit, frames), frames.shape
        return Clip(
            story_id=unit.shot.story_id,
            shot_index=unit.shot.shot_index,
            kind=unit.shot.kind,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            num_frames=num_frames,
            width=width,
            height=height,
            seed=unit.shot.seed,
            endpoint_closeness=0.0,
            endpoint_jump=0.0,
            degraded=self._degraded,
        )

    def _publish(self, unit: MotionUnit, frames: Pixels) -> File:
        path = f"clips/{unit.shot.story_id}/{unit.shot.shot_index:04d}.mkv"
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "clip.mkv"
            write_clip(local, frames, unit.fps)
            return self._output.publish_file(path, local)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    """One attempt at a shot: its frames (F, H, W, 3), if there are any that can be shown.

    `closeness`: of the model's own ends to the keyframes.
    """

    seed: int
    flaw: str
    closeness: float = 0.0
    frames: Pixels | None = None


def _laid_out(shot: Shot, first: Pixels, last: Pixels) -> Pixels:
    """The frames of a shot that needs no model."""
    match shot.kind:
        case ShotKind.CUT:
            return cut(first, last)
        case ShotKind.HOLD:
            return hold(first, last, shot.num_frames)
        case _:
            assert shot.kind is ShotKind.DISSOLVE
            return dissolve(first, last, shot.num_frames)


def build_renderer(config: MotionConfig) -> TransitionRenderer:
    """Load the renderer that `config` names."""
    match config.renderer:
        case SemanticMotionConfig() as parts:
            return SemanticMotionRenderer(config, parts)
        case ImagePromptConfig() as parts:
            return ImagePromptRenderer(config, parts)
        case SparseControlConfig() as parts:
            return SparseControlRenderer(config, parts)
        case FirstLastFrameConfig() as parts:
            return FirstLastFrameRenderer(config, parts)
        case LatentInterpolationConfig():
            return LatentInterpolation(config)
        case DissolveConfig():
            return Dissolve()
        case _:
            assert_never(config.renderer)


def _check_sizes(first: Pixels, last: Pixels) -> None:
    if first.shape != last.shape:
        sizes = [f"{width} x {height}" for height, width, _ in (first.shape, last.shape)]
        raise ValueError(f"keyframes are {sizes[0]} and {sizes[1]} pixels, must be of one size")
