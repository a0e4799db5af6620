"""Loads the video model of a text-to-image pipeline and a motion adapter."""

from typing import Any

from diffusers import MotionAdapter, UNetMotionModel

from storyreel.stages.models.loading import load_part, load_pipeline
from storyreel.stages.motion.config import MotionConfig, VideoUNetConfig


def load_motion_pipeline(config: MotionConfig, video: VideoUNetConfig) -> Any:
    """A text-to-image pipeline whose UNet is a `UNetMotionModel`.

    Raises:
        ValueError: the model cannot become a video model, or cannot hold clips of the configured
            size.
    """
    pipeline = load_pipeline(config.model)
    _check_family(pipeline, config)
    _check_size(pipeline, config)
    adapter = load_part(MotionAdapter, video.motion_adapter, config.model)
    try:
        unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"motion.renderer.motion_adapter: does not fit the UNet of motion.model"
            f" {config.model.path}, it must belong to the same family: {error}"
        ) from error
    pipeline.register_modules(unet=unet.to(config.model.device).eval())
    return pipeline


def _check_family(pipeline: Any, config: MotionConfig) -> None:
    kind = pipeline.unet.config.addition_embed_type
    if kind is not None:
        raise ValueError(
            f"motion.model {config.model.path}: its UNet needs more than a text"
            f" (addition_embed_type {kind!r}, as SDXL's); allowed are models of SD1.5's and SD2.1's"
            " families"
        )


def _check_size(pipeline: Any, config: MotionConfig) -> None:
    multiple = pipeline.vae_scale_factor
    for name, value in (("width", config.width), ("height", config.height)):
        if value is not None and value % multiple:
            raise ValueError(f"motion.{name}: {value}, allowed are multiples of {multiple}")
