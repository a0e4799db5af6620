"""Loads the video model of a text-to-image pipeline and a motion adapter."""

from typing import Any

from diffusers import MotionAdapter, UNetMotionModel

from stages.models import load_part, load_pipeline
from stages.motion.config import MotionConfig


def load_motion_pipeline(config: MotionConfig) -> Any:
    """A text-to-image pipeline whose UNet is a `UNetMotionModel`."""
    pipeline = load_pipeline(config.model)
    adapter = load_part(MotionAdapter, config.motion_adapter, config.model)
    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    pipeline.register_modules(unet=unet.to(config.model.device).eval())
    return pipeline
