"""Checkpoints as people have them: LoRA files of every tool, another VAE, half-precision files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.keyframes.stage import KeyframesStage
from storyreel.stages.models.config import ModelConfig, model_revisions
from storyreel.stages.models.loading import load_pipeline
from storyreel.stages.units import KeyframesUnit
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import (
    FAMILIES,
    Family,
    save_tiny_controlnet,
    save_tiny_image_prompt,
    save_tiny_pipeline,
    tiny_pipeline,
    tiny_vae,
)

RANK = 2
TO_OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
TO_Q = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
Q_PROJ = "encoder.layers.0.self_attn.q_proj"


def matrices(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Down and up matrices for a linear layer or a convolution, and so that their product fits."""
    outputs, inputs, *kernel = weight.shape
    down = torch.randn(RANK, inputs, *kernel)
    return down, torch.randn(outputs, RANK, *[1] * len(kernel))


def product(down: Tensor, up: Tensor) -> Tensor:
    return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def peft_names(layer: str) -> tuple[str, str]:
    return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"


def diffusers_names(layer: str) -> tuple[str, str]:
    kind = "lora_linear_layer" if layer.startswith("text_encoder") else "lora"
    return f"{layer}.{kind}.down.weight", f"{layer}.{kind}.up.weight"


def kohya_names(layer: str) -> tuple[str, str]:
    part, _, inner = layer.partition(".")
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part]
    name = prefix + inner.replace(".", "_")
    return f"{name}.lora_down.weight", f"{name}.lora_up.weight"


WRITERS = {"peft": peft_names, "diffusers": diffusers_names, "kohya": kohya_names}


def write_lora(file: Path, pipeline: Any, tool: str) -> dict[str, Tensor]:
    """Write a LoRA of some layers as a tool does; what it adds at weight 1, by layer."""
    added, tensors = {}, {}
    for layer in (f"unet.{TO_OUT}", f"unet.{TO_Q}", f"text_encoder.text_model.{Q_PROJ}"):
        part, _, inner = layer.replace("text_model.", "").partition(".")
        down, up = matrices(getattr(pipeline, part).get_submodule(inner).weight)
        first, second = WRITERS[tool](layer)
        tensors |= {first: down, second: up}
        added[f"{part}.{inner}"] = product(down, up)
        if tool == "kohya":
            tensors[first.replace("lora_down.weight", "alpha")] = torch.tensor(1.0)
            added[f"{part}.{inner}"] /= RANK
    file.parent.mkdir(exist_ok=True)
    save_file(tensors, file)
    return added


def weight_of(pipeline: Any, layer: str) -> Tensor:
    part, _, inner = layer.partition(".")
    weight: Tensor = getattr(pipeline, part).get_submodule(inner).weight
    return weight


@pytest.mark.parametrize("tool", WRITERS)
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_lora_of_every_tool_is_added_with_its_weight(
    family: Family, tool: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    plain = tiny_pipeline(family)
    folder = save_tiny_pipeline(tmp_path / "family", family)
    added = write_lora(tmp_path / "loras" / "style.safetensors", plain, tool)
    lora = {"path": str(tmp_path / "loras"), "weight_name": "style.safetensors", "weight": 0.7}
    config = ModelConfig.model_validate({"path": str(folder), "loras": [lora]})
    loaded = load_pipeline(config)
    for layer, change in added.items():
        expected = weight_of(plain, layer) + 0.7 * change
        torch.testing.assert_close(weight_of(loaded, layer), expected)
    untouched = "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    torch.testing.assert_close(weight_of(loaded, untouched), weight_of(plain, untouched))


def test_several_loras_add_up_and_convolutions_may_be_among_their_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = tiny_pipeline("sd15")
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    expected = weight_of(plain, f"unet.{CONV}").clone()
    loras = []
    for name, weight in (("one", 0.5), ("two", -0.25)):
        down, up = matrices(expected)
        tensors = dict(zip(peft_names(f"unet.{CONV}"), (down, up), strict=True))
        save_file(tensors, tmp_path / f"{name}.safetensors")
        expected += weight * product(down, up)
        loras.append(
            {"path": str(tmp_path), "weight_name": f"{name}.safetensors", "weight": weight}
        )
    loaded = load_pipeline(ModelConfig.model_validate({"path": str(folder), "loras": loras}))
    torch.testing.assert_close(weight_of(loaded, f"unet.{CONV}"), expected)


def test_a_lora_of_another_family_or_another_method_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    wrong = {
        "family": ({"unet.no.such.lora_A.weight": (2, 8), "unet.no.such.lora_B.weight": (8, 2)}),
        "shape": ({f"unet.{TO_Q}.lora_A.weight": (2, 5), f"unet.{TO_Q}.lora_B.weight": (5, 2)}),
        "half": ({f"unet.{TO_Q}.lora_A.weight": (2, 32)}),
        "method": ({f"unet.{TO_Q}.hada_w1_a": (2, 32)}),
    }
    said = {
        "family": "no unet.no.such",
        "shape": "does not fit this model",
        "half": "lacks one of its two matrices",
        "method": "not part of a LoRA",
    }
    for name, shapes in wrong.items():
        tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        lora = {"path": str(tmp_path), "weight_name": f"{name}.safetensors"}
        config = ModelConfig.model_validate({"path": str(folder), "loras": [lora]})
        with pytest.raises(ValueError, match=rf"lora {name}.safetensors: .*{said[name]}"):
            load_pipeline(config)


def test_loras_and_the_vae_are_part_of_what_pins_a_job(tmp_path: Path) -> None:
    """A file that was replaced would otherwise go on under the fingerprint of the old one."""
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    tiny_vae().save_pretrained(tmp_path / "vae")
    write_lora(tmp_path / "loras" / "style.safetensors", tiny_pipeline("sd15"), "peft")
    config = KeyframesConfig.model_validate(
        {
            "model": {
                "path": str(folder),
                "vae": {"path": str(tmp_path / "vae")},
                "loras": [{"path": str(tmp_path / "loras"), "weight_name": "style.safetensors"}],
            }
        }
    )
    before = model_revisions(config)
    assert set(before) == {str(folder), str(tmp_path / "vae"), str(tmp_path / "loras")}
    write_lora(tmp_path / "loras" / "style.safetensors", tiny_pipeline("sd15", seed=1), "peft")
    after = model_revisions(config)
    assert [name for name in before if before[name] != after[name]] == [str(tmp_path / "loras")]


def two_panels(tmp_path: Path, keyframes: dict[str, Any]) -> list[str]:
    """The checksums of two keyframes."""
    config = KeyframesConfig.model_validate(
        {"width": 32, "height": 32, "num_inference_steps": 2, **keyframes}
    )
    stage = KeyframesStage(output_url=str(tmp_path / "out"), config=config)
    unit = KeyframesUnit(story_id="s", panels=(panel_of(0), panel_of(1)), reference_images=())
    return [keyframe.sha256 for keyframe in stage(unit)]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_renders_from_half_precision_files_with_all_that_people_add(
    family: Family, tmp_path: Path
) -> None:
    """fp16 files, another VAE, a LoRA, an IP-Adapter and a ControlNet at once."""
    torch.manual_seed(0)
    folder = tmp_path / "family"
    tiny_pipeline(family).save_pretrained(folder, variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    save_tiny_image_prompt(folder, family)
    save_tiny_controlnet(tmp_path / "control", family)
    tiny_vae().save_pretrained(tmp_path / "vae")
    write_lora(tmp_path / "style.safetensors", tiny_pipeline(family), "kohya")
    model = {"path": str(folder), "variant": "fp16"}
    added = {"path": str(tmp_path), "weight_name": "style.safetensors", "weight": 0.5}
    everything = two_panels(
        tmp_path,
        {
            "model": {**model, "vae": {"path": str(tmp_path / "vae")}, "loras": [added]},
            "image_prompt": {"path": str(folder)},
            "controlnet": {"path": str(tmp_path / "control")},
            "free_u": {},
        },
    )
    plain = two_panels(tmp_path, {"model": model})
    assert len(set(everything + plain)) == 4


def test_another_vae_decodes(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "family", "sdxl")
    tiny_vae().save_pretrained(tmp_path / "vae")
    settings = json.loads((tmp_path / "vae" / "config.json").read_text())
    settings["force_upcast"] = False  # as that of SDXL's VAE for float16
    (tmp_path / "vae" / "config.json").write_text(json.dumps(settings))
    config = {"path": str(folder), "vae": {"path": str(tmp_path / "vae")}}
    loaded = load_pipeline(ModelConfig.model_validate(config))
    assert not loaded.vae.config.force_upcast


def test_free_u_changes_pictures(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    model = {"path": str(folder)}
    plain, stronger = (
        two_panels(tmp_path, {"model": model, **one}) for one in ({}, {"free_u": {}})
    )
    assert set(plain).isdisjoint(stronger)
