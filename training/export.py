"""Write a trained family in the layout that diffusers and transformers load."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CLIPImageProcessor

from storyreel.training.parts.clip import ClipModels
from storyreel.training.parts.motion import MotionModels

PIPELINE_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Everything that stages 2 and 3 load."""

    clip: ClipModels
    vae: Any
    scheduler: Any
    motion: MotionModels


def feature_extractor(image_size: int) -> Any:
    """Pictures to the image encoder's (3, size, size) in [-1, 1]."""
    return CLIPImageProcessor(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def export_family(family: Family, directory: Path) -> None:
    """Write the folder, weights as float16 safetensors."""
    clip, motion = family.clip, family.motion
    vision: Any = clip.image_encoder.config
    parts: dict[str, Any] = {
        "text_encoder": _half(clip.text_encoder),
        "image_encoder": _half(clip.image_encoder),
        "vae": _half(family.vae),
        "unet": _half(motion.unet),
        "motion_adapter": _half(motion.adapter),
        "motion_predictor": _half(motion.predictor),
        "tokenizer": clip.tokenizer,
        "feature_extractor": feature_extractor(vision.image_size),
        "scheduler": family.scheduler,
    }
    for name, part in parts.items():
        part.save_pretrained(directory / name)
    for name in ("text_encoder", "image_encoder"):
        _compute_in_float32(directory / name / "config.json")
    index = json.dumps(PIPELINE_INDEX, indent=2)
    (directory / "model_index.json").write_text(index + "\n", encoding="utf-8")


def _half(model: Any) -> Any:
    return copy.deepcopy(model).half()


def _compute_in_float32(path: Path) -> None:
    # Half precision is for the disk; by default transformers would compute in it, diffusers not.
    config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
