"""Motion between keyframes: the paper's Table 2 on clips whose truth is known, and real films.

Every method gets the first and the last frame of a held-out clip and its caption, and renders the
frames between from the same noise. Clips inside one place and between places are told apart;
motions that end where they began are left out.

The definitions were fixed before anything was measured, except those marked with *. All are means
over frames, then over the clips.

- Pixel distance: mean squared error against the true frame, pixels in [0, 1], over the frames
  between the keyframes.
- Perceptual distance: against the true frame
  (`storyreel.stages.scoring.measures.video.perceptual_distance`), over the same frames.
- CLIPSIM, first and frames, and perceptual distance, first and frames *: as in the paper's Table 2,
  of the first frame with each other one, and of neighbouring frames, over the whole clip, both true
  keyframes with it. They reward a film that stands still; the row of the true clips says how alike
  their frames should be.
- Motion: mean absolute difference of neighbouring frames, without the keyframes, over that of the
  true clips. Flicker adds to it, so that two more tell them apart:
- displacement *: how far textured parts move from frame to frame, in widths of the picture;
- flicker *: grey levels that come and go again within three frames; both without the keyframes.
- Tokens: mean squared error of the image encoder's tokens against those of the true frames, over
  the frames between the keyframes.
- Jumps of films: the step between a keyframe and the generated frame next to it in median steps
  inside the clip, before any blending; across a join, the larger of the two around the keyframe.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.fidelity.keyframes import stories, unit_of
from benchmarks.fidelity.rendering import Method, pictures_of, read_png
from benchmarks.fidelity.results import Result, Row, Setup, row_of
from storyreel.stages.models.image_encoder import ImageEncoder
from storyreel.stages.models.loading import load_part
from storyreel.stages.motion.config import MotionConfig, SemanticMotionConfig
from storyreel.stages.motion.denoise import Conditions, rows_of_text
from storyreel.stages.motion.ends import match_ends
from storyreel.stages.motion.frames import to_image, to_pixels
from storyreel.stages.motion.parts import load_motion_pipeline
from storyreel.stages.motion.predictor import SemanticMotionPredictor, interpolate
from storyreel.stages.motion.renderer import Transition
from storyreel.stages.motion.renderers.semantic_motion import join_text_and_motion
from storyreel.stages.motion.sampler import ClipSampler
from storyreel.stages.motion.stage import build_renderer
from storyreel.stages.scoring.config import ScoringConfig
from storyreel.stages.scoring.measures.encoder import ClipEncoder
from storyreel.stages.scoring.measures.motion import (
    displacement,
    endpoint_jumps,
    flicker,
    join_jump,
    motion_magnitude,
)
from storyreel.stages.scoring.measures.video import (
    ImageFeatures,
    frame_similarity,
    perceptual_distance,
)
from storyreel.stages.seeds import derive_seed
from storyreel.training import world
from storyreel.training.stories import HeldOutClip, HeldOutStory, held_out_clip

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
KINDS: tuple[Literal["inside", "between"], ...] = ("inside", "between")


class Condition(StrEnum):
    """The condition of a clip's frames."""

    PREDICTOR = "predictor"
    LINEAR = "linear interpolation of tokens"
    TEXT = "no semantic condition"
    LATENTS = "interpolation of latents"
    TRUE = "tokens of the true frames"
    """No method: what the video model could do with a perfect predictor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipMethod:
    """One line of Table 2."""

    condition: Condition
    row: Row
    config: MotionConfig


def table2(setup: Setup) -> list[ClipMethod]:
    """The predictor and its alternatives, without and with the reading of keyframes.

    Interpolated latents are decoded as they are, no model reads anything: one line stands for both.
    """
    methods = []
    for reading in (False, True):
        parts = parts_of(setup.config.motion).model_copy(update={"read_keyframes": reading})
        config = setup.config.motion.model_copy(update={"renderer": parts})
        for condition in Condition:
            if condition is Condition.LATENTS and reading:
                continue
            row = row_of(setup, f"clips-{condition.name.lower()}", str(condition), config)
            methods.append(ClipMethod(condition=condition, row=row, config=config))
    return methods


def parts_of(config: MotionConfig) -> SemanticMotionConfig:
    """The parts of the paper's renderer, which is what is measured."""
    if not isinstance(config.renderer, SemanticMotionConfig):
        raise ValueError(f"motion.renderer.kind: {config.renderer.kind}, must be semantic_motion")
    return config.renderer


class ClipRenderer:
    """Renders the frames between two keyframes under any of the conditions."""

    def __init__(self, config: MotionConfig) -> None:
        """Load the models."""
        parts = parts_of(config)
        self._pipeline = load_motion_pipeline(config, parts)
        self._sampler = ClipSampler(self._pipeline, config, parts)
        self._encoder = ImageEncoder(config.model, parts.image_encoder, parts.feature_extractor)
        self._predictor = load_part(SemanticMotionPredictor, parts.motion_predictor, config.model)

    def __call__(self, clip: HeldOutClip, frames: Pixels, condition: Condition) -> Pixels:
        """The clip (F, H, W, 3), its ends those of the true `frames`."""
        transition = Transition(
            first=to_image(frames[0]),
            last=to_image(frames[-1]),
            text=clip.text,
            negative_prompt="",
            seed=clip.seed,
            num_frames=len(frames),
        )
        if condition is Condition.LATENTS:
            return self._blended(transition, frames)
        (generated,) = self._sampler.render([transition], self._read(transition, frames, condition))
        return to_pixels(match_ends(generated, transition.first, transition.last))

    @torch.inference_mode()
    def tokens(self, frames: Pixels) -> dict[Condition, Tensor]:
        """The tokens of each condition, (1, F, N, C)."""
        true = self._encoder.tokens(frames)[None]
        ends = true[:, 0], true[:, -1]
        return {
            Condition.PREDICTOR: self._predictor(*ends, len(frames)),
            Condition.LINEAR: interpolate(*ends, len(frames)),
            Condition.TRUE: true,
        }

    @torch.inference_mode()
    def _read(self, transition: Transition, frames: Pixels, condition: Condition) -> Conditions:
        text = self._sampler.encode_text([transition])
        if condition is Condition.TEXT:
            return rows_of_text(text, transition.num_frames)
        tokens = self.tokens(frames)[condition]
        return join_text_and_motion(text, self._predictor.project(tokens))

    @torch.inference_mode()
    def _blended(self, transition: Transition, frames: Pixels) -> Pixels:
        vae = self._pipeline.vae
        ends = torch.stack([transition.first, transition.last]).to(vae.device, vae.dtype)
        first, last = vae.encode(ends).latent_dist.mode()
        share = torch.linspace(0, 1, len(frames), device=vae.device, dtype=vae.dtype)[1:-1]
        latents = torch.lerp(first, last, share[:, None, None, None])
        inner = to_pixels(vae.decode(latents).sample)
        return np.concatenate([frames[:1], inner, frames[-1:]])


class ClipJudge:
    """Measures clips against the true ones."""

    def __init__(self, setup: Setup) -> None:
        """Load the encoder."""
        self._clip = ClipEncoder(ScoringConfig(model=setup.config.keyframes.model))

    def __call__(self, frames: Pixels, true: Pixels) -> Result:
        """All that is measured of a clip (F, H, W, 3)."""
        ours, theirs = self._features(frames), self._features(true)
        pairs = zip(frames[1:-1], true[1:-1], strict=True)
        errors = [float(np.square(a / 255 - b / 255).mean()) for a, b in pairs]
        similarity = frame_similarity([ours])
        inner = slice(1, len(frames) - 1)
        return {
            "pixels": float(np.mean(errors)),
            "perceptual": float(
                perceptual_distance(ours[inner].layers, theirs[inner].layers).mean()
            ),
            "clipsim_first": similarity.clipsim_first,
            "clipsim_frames": similarity.clipsim_frames,
            "perceptual_first": similarity.perceptual_first,
            "perceptual_frames": similarity.perceptual_frames,
            "displacement": displacement(list(frames[inner])),
            "flicker": flicker(list(frames[inner])),
            "motion": motion_magnitude(list(frames[inner])),
            "true_motion": motion_magnitude(list(true[inner])),
        }

    def _features(self, frames: Pixels) -> ImageFeatures:
        batches = list(self._clip.features(frames))
        layers = zip(*(batch.layers for batch in batches), strict=True)
        return ImageFeatures(
            embeds=torch.cat([batch.embeds for batch in batches]),
            layers=tuple(torch.cat(layer) for layer in layers),
        )


def clips(setup: Setup) -> list[HeldOutClip]:
    """The held-out clips of both kinds."""
    length = setup.config.motion.num_frames
    return [
        held_out_clip(index, kind, num_frames=length)
        for kind in KINDS
        for index in range(setup.num_clips)
    ]


def true_frames(setup: Setup, clip: HeldOutClip) -> Pixels:
    """The clip as the world draws it."""
    frames: Pixels = world.draw_clip(clip.clip, setup.config.keyframes.width)
    return frames


def measure_clips(setup: Setup, method: ClipMethod) -> None:
    """Render and judge what is not there yet; the frames are kept as one wide picture."""
    wanted = [clip for clip in clips(setup) if not method.row.has(clip.clip_id)]
    if not wanted:
        return
    render, judge = ClipRenderer(method.config), ClipJudge(setup)
    for clip in wanted:
        true = true_frames(setup, clip)
        frames = render(clip, true, method.condition)
        save_strip(method.row, clip.clip_id, [frames])
        method.row.keep(clip.clip_id, judge(frames, true))
    logger.info("%s: %d clips", method.row.name, len(wanted))


def true_clips_row(setup: Setup) -> Row:
    """The row of the true clips."""
    return row_of(setup, "clips-drawn", "true clips", setup.config.keyframes.model)


def measure_true_clips(setup: Setup) -> None:
    """Judge the true clips: how alike their frames are, and how they move."""
    row = true_clips_row(setup)
    wanted = [clip for clip in clips(setup) if not row.has(clip.clip_id)]
    if not wanted:
        return
    judge = ClipJudge(setup)
    for clip in wanted:
        true = true_frames(setup, clip)
        row.keep(clip.clip_id, judge(true, true))


def save_strip(row: Row, unit: str, shots: Sequence[Pixels]) -> None:
    """Keep the frames of clips (F, H, W, 3): side by side, one clip below the other."""
    row.folder.mkdir(parents=True, exist_ok=True)
    lines = [np.concatenate(list(frames), axis=1) for frames in shots]
    Image.fromarray(np.concatenate(lines)).save(row.path(unit, ".png"))


def read_strip(row: Row, unit: str, side: int) -> list[list[Pixels]]:
    """Read the frames of each clip, `side` pixels wide, that `save_strip` saved."""
    strip = read_png(row.path(unit, ".png"))
    height, width = strip.shape[:2]
    return [
        [strip[top : top + side, left : left + side] for left in range(0, width, side)]
        for top in range(0, height, side)
    ]


def tokens_row(setup: Setup) -> Row:
    """The token errors."""
    return row_of(setup, "tokens", "tokens", setup.config.motion)


def measure_tokens(setup: Setup) -> None:
    """The predictor against linear interpolation, in the space of the image encoder's tokens."""
    row = tokens_row(setup)
    wanted = [clip for clip in clips(setup) if not row.has(clip.clip_id)]
    if not wanted:
        return
    renderer = ClipRenderer(setup.config.motion)
    for clip in wanted:
        told = renderer.tokens(true_frames(setup, clip))
        true = told.pop(Condition.TRUE)
        row.keep(
            clip.clip_id,
            {
                condition.name.lower(): float((tokens - true)[:, 1:-1].square().mean())
                for condition, tokens in told.items()
            },
        )


def films_row(setup: Setup, keyframes: Method) -> Row:
    """Films over the keyframes of a method."""
    name = f"films-{keyframes.row.folder.name}"
    return row_of(setup, name, "films", setup.config.motion)


def film_stories(setup: Setup) -> list[HeldOutStory]:
    """The stories that become films."""
    return stories(setup)[: setup.num_films]


def measure_films(setup: Setup, keyframes: Method) -> None:
    """Render the clips between real keyframes of whole stories and measure their jumps."""
    row = films_row(setup, keyframes)
    wanted = [story for story in film_stories(setup) if not row.has(unit_of(story))]
    if not wanted:
        return
    render, fixed = build_renderer(setup.config.motion), setup.config.motion.num_frames
    for story in wanted:
        unit = unit_of(story)
        pictures = pictures_of(keyframes.row, unit, len(story.panels))
        ways = [_transition(story, index, pictures, fixed) for index in range(len(pictures) - 1)]
        shots = [to_pixels(match_ends(render([way])[0], way.first, way.last)) for way in ways]
        save_strip(row, unit, shots)
        row.keep(
            unit,
            {
                "ends": [list(endpoint_jumps(list(shot))) for shot in shots],
                "joins": [join_jump(list(a), list(b)) for a, b in pairwise(shots)],
                "motion": [motion_magnitude(list(shot)) for shot in shots],
            },
        )


def _transition(
    story: HeldOutStory, index: int, pictures: Sequence[Pixels], num_frames: int
) -> Transition:
    before, after = story.panels[index : index + 2]
    return Transition(
        first=to_image(pictures[index]),
        last=to_image(pictures[index + 1]),
        text=f"{before.prompt}, then {after.prompt}",
        negative_prompt="",
        seed=derive_seed(story.story_id, story.seed, "shot", index),
        num_frames=num_frames,
    )
