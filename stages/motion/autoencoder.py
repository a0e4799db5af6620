"""Pictures to latents and back, through the image VAE of a family.

Axes: B images, C latent channels, H height, W width, h and w those of latents.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor

from storyreel.stages.heartbeat import beat
from storyreel.stages.motion.renderer import Transition


class Autoencoder:
    """An `AutoencoderKL`, with latents scaled as the UNet knows them."""

    def __init__(self, vae: Any, decode_batch_size: int) -> None:
        """Take a loaded VAE; `decode_batch_size` is how many images it decodes at once."""
        self._vae = vae
        self._decode_batch_size = decode_batch_size
        self._factor: int = 2 ** (len(vae.config.block_out_channels) - 1)

    def smaller(self) -> Self:
        """The same one with less memory: one image at a time."""
        smaller = copy(self)
        smaller._decode_batch_size = 1
        return smaller

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, C, h, w), float32.

        Raises:
            ValueError: the VAE cannot hold images of this size.
        """
        height, width = images.shape[-2:]
        if height % self._factor or width % self._factor:
            raise ValueError(
                f"keyframes are {width} x {height} pixels, both must be multiples of {self._factor}"
            )
        # The mode, not a sample: the same picture is the same anchor in both of its clips.
        distribution = self._vae.encode(images.to(self._vae.device, self._vae.dtype)).latent_dist
        mode: Tensor = distribution.mode()
        return mode.float().mul(self._vae.config.scaling_factor)

    def encode_keyframes(self, transitions: Sequence[Transition]) -> Tensor:
        """The latents of the first and the last frame of each clip, (B, C, 2, h, w)."""
        # Clip by clip, so that a clip is the same whatever is rendered beside it.
        ends = [self.encode(torch.stack([one.first, one.last])) for one in transitions]
        return torch.stack(ends).transpose(1, 2)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W) in [-1, 1], float32 on the CPU."""
        scaled = (latents / self._vae.config.scaling_factor).to(self._vae.dtype)
        decoded = []
        for batch in scaled.split(self._decode_batch_size):
            decoded.append(self._vae.decode(batch).sample.float().cpu())
            beat()
        return torch.cat(decoded)
