"""A renderer of public weights only: IP-Adapter tokens, interpolated between the keyframes.

The stand-in for the Semantic Motion Predictor where no trained one is at hand.

Axes: G guidance branches, F frames, E channels of an image embedding, T image tokens, D channels
of cross-attention.
"""

from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection
from torch import Tensor

from stages.model_config import resolve
from stages.motion.config import IPAdapterConfig, MotionConfig
from stages.motion.denoise import rows_of_frames, rows_of_text
from stages.motion.image_encoder import ImageEncoder
from stages.motion.parts import load_motion_pipeline
from stages.motion.renderer import Transition
from stages.motion.sampler import ClipSampler


def slerp(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """Turn evenly from one vector (E,) to the other; the length changes evenly, too: (F, E)."""
    share = torch.linspace(0, 1, num_frames, device=first.device, dtype=torch.float32)[:, None]
    start, end = first.float(), last.float()
    length = torch.lerp(start.norm(), end.norm(), share)
    start, end = start / start.norm(), end / end.norm()
    angle = torch.dot(start, end).clamp(-1, 1).arccos()
    # Of (nearly) equal directions the sines are zero; a straight line is the limit.
    if angle < 1e-4:
        turned = torch.lerp(start, end, share)
    else:
        from_start, to_end = torch.sin((1 - share) * angle), torch.sin(share * angle)
        turned = (from_start * start + to_end * end) / angle.sin()
    return torch.mul(length, turned)


def take_image_projection(pipeline: Any, adapter: IPAdapterConfig) -> Any:
    """Load an IP-Adapter into the UNet; return its projection, (rows, 1, E) to (rows, 1, T, D).

    The UNet would repeat one image over a whole clip. Without its projection it takes the tokens of
    each frame as they are.

    Raises:
        ValueError: the adapter does not read one embedding per image.
    """
    pipeline.load_ip_adapter(
        resolve(adapter.path),
        subfolder=adapter.subfolder,
        weight_name=adapter.weight_name,
        revision=adapter.revision,
        image_encoder_folder=None,
    )
    pipeline.set_ip_adapter_scale(adapter.scale)
    projection = pipeline.unet.encoder_hid_proj
    (layer,) = projection.image_projection_layers
    if not isinstance(layer, ImageProjection):
        raise ValueError(
            f"ip_adapter {adapter.weight_name}: reads {type(layer).__name__}, only adapters of one"
            " embedding per image can be interpolated, such as ip-adapter_sd15.safetensors"
        )
    pipeline.unet.encoder_hid_proj = None
    return projection


class ImagePromptRenderer:
    """CLIP image embeddings, turned from keyframe to keyframe, as image prompts of the frames."""

    def __init__(self, config: MotionConfig) -> None:
        """Load the models: motion modules, then the IP-Adapter, then keyframe reading."""
        pipeline = load_motion_pipeline(config)
        self._projection = take_image_projection(pipeline, config.ip_adapter)
        self._sampler = ClipSampler(pipeline, config)
        self._image_encoder = ImageEncoder(config)
        self._config = config

    @property
    def max_frames(self) -> int:
        """What the motion adapter can do."""
        return self._sampler.max_frames

    def __call__(self, transition: Transition) -> Tensor:
        """Render (F, 3, H, W)."""
        text = rows_of_text(self._sampler.encode_text(transition), transition.num_frames)
        return self._sampler.render(transition, (text, [self._image_tokens(transition)]))

    @torch.inference_mode()
    def _image_tokens(self, transition: Transition) -> Tensor:
        """(G * F, 1, T, D); the negative branch gets the adapter's empty image."""
        first, last = self._image_encoder.embeds(torch.stack([transition.first, transition.last]))
        embeds = slerp(first, last, transition.num_frames).to(first.dtype)
        branches = torch.stack([torch.zeros_like(embeds), embeds])[-self._config.num_branches :]
        rows = rows_of_frames(branches[:, None, :, None])
        tokens: Tensor = self._projection([rows])[0]
        return tokens
