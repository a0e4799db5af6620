"""Held-out clips as the trained models render them, beside the true ones, and how alike their
frames are: the paper's Table 2.

Axes: F frames, C latent channels, h and w of latents, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from storyreel.stages.models.denoising import draw_noise
from storyreel.stages.motion.denoise import Denoising, denoise_clips
from storyreel.stages.motion.ends import match_ends
from storyreel.stages.motion.frames import Pixels, to_pixels
from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.stages.motion.renderers.semantic_motion import join_text_and_motion
from storyreel.stages.scoring.measures.video import ImageFeatures, frame_similarity
from storyreel.training.motion.models import Models, VideoModel
from storyreel.training.parts.motion import EncodedClips

NUM_STEPS = 25
"""Denoising steps of a sample, without guidance: a look, not a film."""


class Sampler:
    """Renders clips between the ends of true ones with the models as they are now."""

    def __init__(
        self, models: Models, video: VideoModel, predictor: SemanticMotionPredictor
    ) -> None:
        self._models = models
        self._video = video
        self._predictor = predictor
        self._scheduler = DDIMScheduler.from_config(
            video.scheduler.config, timestep_spacing="trailing", clip_sample=False
        )

    @torch.inference_mode()
    def __call__(self, clips: EncodedClips, row: int) -> tuple[Pixels, Pixels]:
        """Clip `row` as it is and as it is rendered, (F, H, W, 3) each."""
        device = self._video.unet.device
        latents = clips.latents[row : row + 1].float().to(device).transpose(1, 2)
        tokens = clips.tokens[row : row + 1].float().to(device)
        predicted = self._predictor(tokens[:, 0], tokens[:, -1], tokens.shape[1])
        text = self._models.encode_text([clips.captions[row][0]])[None]
        rendered = denoise_clips(
            self._video.unet,
            self._scheduler,
            noise=draw_noise(tuple(latents.shape), row).to(device),
            keyframes=latents[:, :, [0, -1]],
            conditions=join_text_and_motion(text, self._predictor.project(predicted)),
            how=Denoising(num_inference_steps=NUM_STEPS, guidance_scale=1.0),
        )
        true = self._decode(latents)
        ours = match_ends(self._decode(rendered), true[0], true[-1])
        return to_pixels(true), to_pixels(ours)

    def _decode(self, latents: Tensor) -> Tensor:
        return self._models.decode_latents(latents[0].transpose(0, 1))

    def table2(self, frames: Pixels) -> Mapping[str, float]:
        """How alike the frames of a clip are: to the first, and to the one before."""
        embeds, layers = self._models.encode_features(frames)
        return asdict(frame_similarity([ImageFeatures(embeds=embeds, layers=layers)]))


def side_by_side(true: Pixels, ours: Pixels) -> Pixels:
    """The true frames in a row, and below them the rendered ones."""
    return np.concatenate([np.concatenate(list(clip), axis=1) for clip in (true, ours)])
