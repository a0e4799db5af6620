"""The image prompt adapter: trained beside a real frozen UNet, loaded by stock diffusers."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

from storyreel.training.config import ImagePromptConfig, TrainingConfig
from storyreel.training.data import open_images, to_tensor
from storyreel.training.parts.clip import ClipModels
from storyreel.training.parts.image_prompt import (
    ImagePromptLoss,
    build_adapter,
    draw_views,
    embed_images,
    export_image_prompt,
    train_image_prompt,
)
from storyreel.training.parts.images import EncodedImages, build_scheduler
from tests.stages.tiny import (
    EMBEDDING_WIDTH,
    tiny_image_encoder,
    tiny_image_processor,
    tiny_pipeline,
)

SIZE = 32


@pytest.fixture(scope="module")
def pipeline() -> Any:
    torch.manual_seed(0)
    pipeline = tiny_pipeline("sd15")
    pipeline.register_modules(
        image_encoder=tiny_image_encoder(), feature_extractor=tiny_image_processor()
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def clip(pipeline: Any) -> ClipModels:
    return ClipModels(
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        image_encoder=pipeline.image_encoder,
    )


def config_of(num_steps: int = 3, **options: Any) -> TrainingConfig:
    short = {"num_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
    adapter = {"num_steps": num_steps, "batch_size": 4, "learning_rate": 1e-3, **options}
    return TrainingConfig.model_validate(
        {
            "world": {
                "num_images": 10,
                "num_clips": 1,
                "image_size": SIZE,
                "num_held_out": 2,
                "num_workers": 1,
            },
            "vae": {**short, "decoder": short},
            "image_prompt": adapter,
            **dict.fromkeys(("clip", "images", "predictor", "motion"), short),
        }
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> EncodedImages:
    """Pictures of the world, by turns darkened and brightened, with latents of +1 and of -1."""
    pictures = open_images(tmp_path_factory.mktemp("work"), config_of().world, seed=0)
    pixels = np.array(pictures.pixels) // 8
    pixels[1::2] = 255 - pixels[1::2]
    pictures = replace(pictures, pixels=pixels)
    latents = torch.tensor([1.0, -1.0] * 5).view(-1, 1, 1, 1).expand(-1, 4, 8, 8)
    return EncodedImages(latents=latents, tokens=latents, pictures=pictures)


def inputs(pipeline: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(4, 5, pipeline.unet.config.cross_attention_dim, generator=generator)
    sample = torch.randn(4, 4, 8, 8, generator=generator)
    return {"sample": sample, "timestep": 500, "encoder_hidden_states": text}


def prompted(given: dict[str, Any], tokens: torch.Tensor) -> dict[str, Any]:
    return {**given, "encoder_hidden_states": (given["encoder_hidden_states"], [tokens[:, None]])}


@torch.no_grad()
def test_training_starts_at_the_plain_unet(pipeline: Any) -> None:
    given, unet = inputs(pipeline), copy.deepcopy(pipeline.unet)
    plain = unet(**given).sample
    adapter = build_adapter(unet, EMBEDDING_WIDTH)
    tokens = adapter["image_proj"](torch.randn(4, EMBEDDING_WIDTH))
    assert torch.equal(unet(**prompted(given, tokens)).sample, plain)


def test_the_adapter_learns_to_tell_pictures_apart_and_nothing_else_changes(
    pipeline: Any, clip: ClipModels, images: EncodedImages, tmp_path: Path
) -> None:
    """Without words, only the image prompt can say which latents a picture has."""
    before = {name: x.clone() for name, x in pipeline.unet.state_dict().items()}
    processors = dict(pipeline.unet.attn_processors)
    config = config_of(
        30, learning_rate=2e-2, warmup_steps=1, text_dropout=1, image_dropout=0, min_crop=1
    )
    adapter = train_image_prompt(config, pipeline.unet, clip, images, tmp_path)
    after = pipeline.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    assert pipeline.unet.attn_processors == processors

    unet = copy.deepcopy(pipeline.unet)
    live = build_adapter(unet, EMBEDDING_WIDTH)
    live.load_state_dict(adapter.state_dict())
    own, others = (loss_of(unet, live, clip, images, shift) for shift in (0, 1))
    assert own < 0.7 * others


@torch.no_grad()
def loss_of(
    unet: Any, adapter: torch.nn.ModuleDict, clip: ClipModels, images: EncodedImages, shift: int
) -> float:
    """The loss on eight pictures when each is prompted by the one `shift` places on."""
    latents = images.latents[:8]
    embeds = embed_images(clip, to_tensor(images.pictures.pixels[:8])).roll(shift, 0)
    context = clip.encode_text([""] * 8), [adapter["image_proj"](embeds)[:, None]]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    scheduler, timesteps = build_scheduler(), torch.full((8,), 800)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, encoder_hidden_states=context).sample
    return float(F.mse_loss(predicted, scheduler.get_velocity(latents, noise, timesteps)))


def test_a_stopped_run_goes_on_from_its_checkpoint(
    pipeline: Any, clip: ClipModels, images: EncodedImages, tmp_path: Path
) -> None:
    config = config_of(4, checkpoint_every=2)
    torch.manual_seed(0)  # as the command does; the checkpoint holds what came of it
    whole = train_image_prompt(config, pipeline.unet, clip, images, tmp_path / "whole")
    steps = iter(range(3))

    def stop(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, ImageProjection):
            next(steps)

    torch.manual_seed(0)
    with register_module_forward_pre_hook(stop), pytest.raises(StopIteration):
        train_image_prompt(config, pipeline.unet, clip, images, tmp_path / "stopped")
    again = train_image_prompt(config, pipeline.unet, clip, images, tmp_path / "stopped")
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight)


@torch.no_grad()
def test_stock_diffusers_loads_the_file_and_predicts_what_was_trained(
    pipeline: Any, tmp_path: Path
) -> None:
    unet = copy.deepcopy(pipeline.unet)
    adapter = build_adapter(unet, EMBEDDING_WIDTH)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = export_image_prompt(adapter, tmp_path)
    stock = StableDiffusionPipeline(**copy.deepcopy(pipeline.components))
    stock.load_ip_adapter(str(tmp_path), subfolder="image_prompt", weight_name=path.name)
    embeds = torch.randn(4, EMBEDDING_WIDTH)
    given = inputs(pipeline)
    trained = unet(**prompted(given, adapter["image_proj"](embeds))).sample
    conditions = {"image_embeds": [embeds[:, None]]}
    loaded = stock.unet(**given, added_cond_kwargs=conditions).sample
    empty = unet(**prompted(given, adapter["image_proj"](0 * embeds))).sample
    assert (loaded - trained).std() < 0.02 * (trained - empty).std()
    stock.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (40, 40), (200, 30, 30))
    drawn = stock("a fox", ip_adapter_image=image, num_inference_steps=1, width=32, height=32)
    assert drawn.images[0].size == (32, 32)


def test_the_shipped_file_is_small_half_precision_and_named_as_the_published_ones(
    tmp_path: Path,
) -> None:
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config("models/pocket/unet"))
    path = export_image_prompt(build_adapter(unet, 128), tmp_path)
    weights = load_file(path)
    projection = {"proj.weight", "proj.bias", "norm.weight", "norm.bias"}
    numbers = [i for i, name in enumerate(unet.attn_processors) if "attn2" in name]
    layers = {f"{i}.to_{kind}_ip.weight" for i in numbers for kind in "kv"}
    expected = {f"image_proj.{n}" for n in projection} | {f"ip_adapter.{n}" for n in layers}
    assert set(weights) == expected
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert path.stat().st_size < 1.5 * 2**20


def test_views_are_crops_of_the_picture_half_of_them_mirrored() -> None:
    image = torch.linspace(-1, 1, 3 * SIZE * SIZE).view(1, 3, SIZE, SIZE).expand(20, -1, -1, -1)
    whole = draw_views(image, adapter_config(min_crop=1.0), torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(view, image[0].flip(-1), atol=1e-3) for view in whole]
    straight = [torch.allclose(view, image[0], atol=1e-3) for view in whole]
    assert all(a != b for a, b in zip(mirrored, straight, strict=True))
    assert 4 <= sum(mirrored) <= 16
    cropped = draw_views(image, adapter_config(min_crop=0.5), torch.Generator().manual_seed(0))
    assert cropped.shape == image.shape
    assert (cropped.amax(dim=(1, 2, 3)) - cropped.amin(dim=(1, 2, 3))).min() < 1.9


def adapter_config(**options: Any) -> ImagePromptConfig:
    return config_of(**options).image_prompt


@torch.no_grad()
def test_dropped_image_prompts_are_the_empty_image_of_diffusers(
    pipeline: Any, clip: ClipModels, images: EncodedImages
) -> None:
    """Guidance subtracts what the zero embedding gives; training must have shown it."""
    seen: list[torch.Tensor] = []
    unet = copy.deepcopy(pipeline.unet)
    adapter = build_adapter(unet, EMBEDDING_WIDTH)
    adapter["image_proj"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for dropout in (0.0, 1.0):
        loss = ImagePromptLoss(
            unet=unet,
            projection=adapter["image_proj"],
            clip=clip,
            images=images,
            config=adapter_config(image_dropout=dropout),
            scheduler=build_scheduler(),
        )
        loss(torch.Generator().manual_seed(0))
    shown, dropped = seen
    assert shown.abs().amax(dim=1).min() > 0
    assert dropped.abs().max() == 0
