"""The renderer of public weights, with a real IP-Adapter of random weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from safetensors.torch import load_file, save_file

from storyreel.stages.models.config import IPAdapterConfig
from storyreel.stages.models.unet_attention import ConsistentAttnProcessor
from storyreel.stages.motion.config import ImagePromptConfig
from storyreel.stages.motion.frames import to_pixels
from storyreel.stages.motion.renderer import Transition
from storyreel.stages.motion.renderers.baselines import slerp
from storyreel.stages.motion.renderers.image_prompt import ImagePromptRenderer
from storyreel.stages.motion.stage import MotionConfig, build_renderer
from tests.stages.tiny import (
    EMBEDDING_WIDTH,
    NUM_PROMPT_TOKENS,
    TEXT_WIDTH,
    tiny_ip_adapter,
    tiny_unet,
)


@pytest.fixture(scope="module")
def adapter_config(tmp_path_factory: pytest.TempPathFactory, config: MotionConfig) -> MotionConfig:
    """The tiny family with an IP-Adapter file, laid out as the published ones are."""
    folder = tmp_path_factory.mktemp("ip_adapter")
    (folder / "models").mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        tensors = tiny_ip_adapter(tiny_unet("sd15"))
    save_file(tensors, folder / "models" / "tiny.safetensors")
    adapter = IPAdapterConfig(
        path=str(folder), subfolder="models", weight_name="tiny.safetensors", scale=1.0
    )
    return config.model_copy(update={"renderer": ImagePromptConfig(ip_adapter=adapter)})


def load(config: MotionConfig) -> ImagePromptRenderer:
    renderer = build_renderer(config)
    assert isinstance(renderer, ImagePromptRenderer)
    return renderer


@pytest.fixture(scope="module")
def transition() -> Transition:
    generator = torch.Generator().manual_seed(6)
    first, last = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    return Transition(
        first=first, last=last, text="a fox", negative_prompt="", seed=1, num_frames=5
    )


def test_adapter_and_keyframe_reading_are_both_in_the_video_unet(
    adapter_config: MotionConfig,
) -> None:
    renderer = load(adapter_config)
    processors = renderer._sampler._pipeline.unet.attn_processors
    for name, processor in processors.items():
        if "motion_modules" in name:
            continue
        kind = ConsistentAttnProcessor if ".attn1." in name else IPAdapterAttnProcessor2_0
        assert isinstance(processor, kind), name


def test_the_ends_of_a_clip_know_the_keyframes_alone_and_it_renders_alike_every_time(
    adapter_config: MotionConfig, transition: Transition
) -> None:
    renderer = load(adapter_config)
    (frames,) = renderer([transition])
    assert frames.shape == (5, 3, 32, 32)
    assert torch.equal(renderer([transition])[0], frames)
    (retold,) = renderer([replace(transition, text="a bear sleeps")])
    assert torch.equal(retold[[0, -1]], frames[[0, -1]])
    assert not torch.equal(retold, frames)


def test_image_tokens_of_a_frame_change_that_frame_most(
    adapter_config: MotionConfig, transition: Transition
) -> None:
    one_step = {"num_inference_steps": 1, "guidance_scale": 1.0}
    renderer = load(adapter_config.model_copy(update=one_step))
    sampler, tokens = renderer._sampler, renderer._image_tokens(renderer._embeds(transition), 1)
    text = sampler.encode_text([transition])[0].expand(5, -1, -1)
    (before,) = sampler.render([transition], (text, [tokens]))
    for frame in (1, 2, 3):
        changed = tokens.clone()
        changed[frame] += torch.randn(tokens[frame].shape)
        change = sampler.render([transition], (text, [changed]))[0] - before
        assert int(change.abs().mean(dim=(1, 2, 3)).argmax()) == frame


@torch.inference_mode()
def test_image_prompts_lead_from_the_first_keyframe_to_the_last(
    adapter_config: MotionConfig, transition: Transition
) -> None:
    renderer = load(adapter_config)
    keyframes = to_pixels(torch.stack([transition.first, transition.last]))
    embeds = renderer._image_encoder.embeds(keyframes)
    negative, positive = renderer._image_tokens(renderer._embeds(transition), 2).chunk(2)
    (ends,) = renderer._projection([embeds[:, None]])
    torch.testing.assert_close(positive[[0, -1]], ends)
    assert torch.equal(negative, negative[:1].expand_as(negative))


def test_an_adapter_that_cannot_be_interpolated_is_refused(
    adapter_config: MotionConfig, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    parts = adapter_config.renderer
    assert isinstance(parts, ImagePromptConfig)
    source = Path(parts.ip_adapter.path) / "models" / "tiny.safetensors"
    tensors = {k: v for k, v in load_file(source).items() if k.startswith("ip_adapter.")}
    for name in ("proj.0", "proj.2"):
        out = NUM_PROMPT_TOKENS * TEXT_WIDTH if name == "proj.2" else EMBEDDING_WIDTH
        tensors[f"image_proj.{name}.weight"] = torch.zeros(out, EMBEDDING_WIDTH)
        tensors[f"image_proj.{name}.bias"] = torch.zeros(out)
    tensors["image_proj.norm.weight"] = torch.ones(TEXT_WIDTH)
    tensors["image_proj.norm.bias"] = torch.zeros(TEXT_WIDTH)
    save_file(tensors, tmp_path / "models" / "tiny.safetensors")
    other = ImagePromptConfig(
        ip_adapter=parts.ip_adapter.model_copy(update={"path": str(tmp_path)})
    )
    with pytest.raises(ValueError, match="only adapters of one embedding per image"):
        load(adapter_config.model_copy(update={"renderer": other}))


def test_turning_between_embeddings_keeps_to_their_ends_and_their_length() -> None:
    first, last = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    turned = slerp(first, last, 3)
    torch.testing.assert_close(turned[[0, 2]], torch.stack([first, last]))
    torch.testing.assert_close(turned[1], torch.full((2,), 3 / 2**0.5))
    torch.testing.assert_close(slerp(first, first, 3), first.expand(3, -1))
