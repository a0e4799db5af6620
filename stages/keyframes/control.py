"""ControlNet (arXiv 2302.05543): pictures of poses, edges or depth that panels follow.

A ControlNet sees every panel alone and adds to the features of the UNet; the panels still read each
other in the UNet's self-attention, so that control and consistency go together (the paper's
figure on pose control).

Axes: B rows of a UNet call (guidance branches of panels), H and W pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from storyreel.stages.keyframes.config import ControlNetConfig
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.loading import load_part

SHARED = ("in_channels", "block_out_channels", "cross_attention_dim", "addition_embed_type")
"""Of the configuration, what a ControlNet and the UNet that it was made for have in common."""


class ControlNetGuide:
    """A ControlNet for the UNet of a pipeline."""

    def __init__(self, pipeline: Any, config: ControlNetConfig, model: ModelConfig) -> None:
        """Load it beside the UNet.

        Raises:
            ValueError: it belongs to another family of models.
            OSError: there is no ControlNet at that place.
        """
        self._controlnet = load_part(ControlNetModel, config, model)
        self._config = config
        _check_family(self._controlnet, pipeline, config.path)

    def is_active(self, step_index: int, num_steps: int) -> bool:
        """True if the ControlNet is applied in this step."""
        return self._config.is_active(step_index, num_steps)

    def residuals(
        self,
        images: Sequence[Tensor | None],
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added_conditions: dict[str, Tensor],
    ) -> dict[str, Any]:
        """Residuals that are added to the UNet's features; empty if no row has a control image.

        Args:
            images: the control images of the B rows, (3, H, W) in [0, 1], on the UNet's
                device.
            sample: (B, C, h, w), as the UNet gets it, and so are the rest.
            timestep: the scheduler's.
            text: (B, L, D).
            added_conditions: SDXL's, else empty.

        Returns:
            Arguments of the UNet.
        """
        pictures = {row: image for row, image in enumerate(images) if image is not None}
        if not pictures:
            return {}
        guided = list(pictures)
        down, middle = self._controlnet(
            sample[guided],
            timestep,
            encoder_hidden_states=text[guided],
            controlnet_cond=torch.stack([*pictures.values()]).to(sample.dtype),
            conditioning_scale=self._config.conditioning_scale,
            added_cond_kwargs={name: value[guided] for name, value in added_conditions.items()},
            return_dict=False,
        )
        return {
            "down_block_additional_residuals": [_spread(one, guided, len(images)) for one in down],
            "mid_block_additional_residual": _spread(middle, guided, len(images)),
        }


def to_control_image(image: Image.Image, width: int, height: int) -> Tensor:
    """A picture cut to a keyframe's shape: (3, height, width) in [0, 1]."""
    fitted = ImageOps.fit(image, (width, height))
    pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32)) / 255
    return rearrange(pixels, "h w c -> c h w")


def _spread(values: Tensor, places: list[int], num_rows: int) -> Tensor:
    """The values of some rows among all; the others get zeros, which change nothing."""
    spread = values.new_zeros(num_rows, *values.shape[1:])
    spread[places] = values
    return spread


def _check_family(controlnet: Any, pipeline: Any, path: str) -> None:
    of_controlnet, of_unet = controlnet.config, pipeline.unet.config
    for name in SHARED:
        if _plain(of_controlnet[name]) != _plain(of_unet[name]):
            raise ValueError(
                f"keyframes.controlnet {path}: is for another family of models: its {name} is"
                f" {of_controlnet[name]}, the UNet's is {of_unet[name]}"
            )
    factor = 2 ** (len(of_controlnet.conditioning_embedding_out_channels) - 1)
    if factor != pipeline.vae_scale_factor:
        raise ValueError(
            f"keyframes.controlnet {path}: makes its pictures {factor} times smaller, the latents"
            f" of this model are {pipeline.vae_scale_factor} times smaller"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
