"""Loads the parts of a video model that are not in a text-to-image pipeline."""

from typing import Any

from diffusers import MotionAdapter, UNetMotionModel

from stages.model_config import ModelConfig, resolve
from stages.models import load_pipeline, torch_dtype
from stages.motion.config import MotionConfig, PartConfig


def location(part: PartConfig, model: ModelConfig) -> dict[str, Any]:
    """Arguments of `from_pretrained` that say where `part` lies."""
    if part.path is None:
        return {
            "pretrained_model_name_or_path": resolve(model.path),
            "subfolder": part.subfolder or "",
            "revision": model.revision,
        }
    return {
        "pretrained_model_name_or_path": resolve(part.path),
        "subfolder": part.subfolder or "",
        "revision": part.revision,
    }


def load_part(kind: Any, part: PartConfig, model: ModelConfig) -> Any:
    """A model of class `kind` of diffusers or transformers, ready for inference; safetensors only.

    Raises:
        OSError: there is no such model at that place.
    """
    loaded = kind.from_pretrained(
        **location(part, model),
        variant=part.variant,
        dtype=torch_dtype(model),
        use_safetensors=True,
    )
    return loaded.to(model.device).eval()


def load_motion_pipeline(config: MotionConfig) -> Any:
    """A text-to-image pipeline whose UNet is a `UNetMotionModel`."""
    pipeline = load_pipeline(config.model)
    adapter = load_part(MotionAdapter, config.motion_adapter, config.model)
    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    pipeline.register_modules(unet=unet.to(config.model.device).eval())
    return pipeline
