"""All renderers of the frames between two keyframes, on tiny real models."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import save_file
from torch import Tensor

from storyreel.stages.models.config import ModelConfig, PartConfig
from storyreel.stages.motion.config import (
    RENDERERS,
    DissolveConfig,
    FirstLastFrameConfig,
    ImagePromptConfig,
    LatentInterpolationConfig,
    LoraConfig,
    MotionConfig,
    RendererConfig,
    SemanticMotionConfig,
    SparseControlConfig,
)
from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.stages.motion.renderer import Transition, TransitionRenderer
from storyreel.stages.motion.renderers.sparse_control import SparseControl
from storyreel.stages.motion.stage import build_renderer
from tests.stages.tiny import (
    save_tiny_family,
    save_tiny_image_prompt,
    tiny_sparse_controlnet,
    tiny_wan,
)

NUM_FRAMES = 6
WAN = "first_last_frame"
UNTOLD = {"latent_interpolation", "dissolve"}
"""Renderers that no text and no seed changes."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny family with all parts, and two tiny Wan pipelines."""
    folder = tmp_path_factory.mktemp("renderers")
    save_tiny_image_prompt(save_tiny_family(folder / "family"), "sd15")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        tiny_sparse_controlnet().save_pretrained(folder / "family" / "sparse_controlnet")
        tiny_wan(version="2.1").save_pretrained(folder / "wan-2.1")
        tiny_wan(version="2.2").save_pretrained(folder / "wan-2.2")
    return folder


@pytest.fixture(scope="module")
def config(models: Path) -> Callable[[str], MotionConfig]:
    """The configuration of a renderer, by its name; "first_last_frame 2.2" is Wan 2.2."""

    def of(name: str) -> MotionConfig:
        kind, _, version = name.partition(" ")
        if kind == WAN:
            pytest.importorskip("accelerate", reason="the extra `wan` is missing")
        adapter = {"path": str(models / "family")}
        own = {"ip_adapter": adapter} if kind == "image_prompt" else {}
        path = models / (f"wan-{version or '2.1'}" if kind == WAN else "family")
        return MotionConfig(
            model=ModelConfig(path=str(path)),
            renderer=RENDERERS[kind].model_validate(own),
            num_frames=NUM_FRAMES,
            num_inference_steps=2,
            guidance_scale=3.0,
        )

    return of


@pytest.fixture(scope="module")
def loaded(config: Callable[[str], MotionConfig]) -> Callable[[str], TransitionRenderer]:
    """Each renderer, loaded once."""
    renderers: dict[str, TransitionRenderer] = {}

    def of(name: str) -> TransitionRenderer:
        if name not in renderers:
            renderers[name] = build_renderer(config(name))
        return renderers[name]

    return of


def transition(seed: int = 1, **changes: Any) -> Transition:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    first, last = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear")
    plain = Transition(
        first=first,
        last=last,
        text="a fox runs",
        negative_prompt="",
        seed=seed,
        num_frames=NUM_FRAMES,
    )
    return replace(plain, **changes)


ALL = [*RENDERERS, "first_last_frame 2.2"]


def test_every_table_of_the_configuration_has_a_renderer() -> None:
    union = get_args(get_args(RendererConfig)[0])
    assert set(RENDERERS.values()) == set(union)


@pytest.mark.parametrize("name", ALL)
def test_a_clip_has_its_frames_and_is_the_same_every_time(
    loaded: Callable[[str], TransitionRenderer], name: str
) -> None:
    (frames,) = loaded(name)([transition()])
    assert frames.shape == (NUM_FRAMES, 3, 32, 32)
    assert frames.dtype == torch.float32
    assert frames.isfinite().all()
    assert torch.equal(loaded(name)([transition()])[0], frames)
    assert all((a - b).abs().mean() > 1e-4 for a, b in pairwise(frames))


@pytest.mark.parametrize("name", ALL)
def test_shots_rendered_in_one_call_are_those_rendered_alone(
    loaded: Callable[[str], TransitionRenderer], name: str
) -> None:
    shots = [transition(1), transition(2, text="a bear sleeps"), transition(3)]
    together = loaded(name)(shots)
    for shot, frames in zip(shots, together, strict=True):
        (alone,) = loaded(name)([shot])
        torch.testing.assert_close(frames, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-2)


@pytest.mark.parametrize("name", ALL)
def test_shots_of_different_length_never_share_a_call(
    loaded: Callable[[str], TransitionRenderer], name: str
) -> None:
    with pytest.raises(ValueError, match="differ in size, length or guidance"):
        loaded(name)([transition(), transition(num_frames=5)])


@pytest.mark.parametrize("change", [{"text": "a bear"}, {"seed": 2}, {"guidance_scale": 6.0}])
@pytest.mark.parametrize("name", [name for name in ALL if name not in UNTOLD])
def test_text_seed_and_the_shots_own_guidance_change_its_frames(
    loaded: Callable[[str], TransitionRenderer], name: str, change: dict[str, Any]
) -> None:
    (plain,), (changed,) = (loaded(name)([t]) for t in (transition(), transition(**change)))
    assert (plain - changed)[1:-1].abs().mean() > 1e-6


@pytest.mark.parametrize("name", ALL)
def test_with_less_memory_a_clip_is_nearly_the_same(
    loaded: Callable[[str], TransitionRenderer],
    config: Callable[[str], MotionConfig],
    name: str,
) -> None:
    (usual,) = loaded(name)([transition()])
    smaller = build_renderer(config(name)).smaller()
    torch.testing.assert_close(smaller([transition()])[0], usual, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["latent_interpolation", "dissolve"])
def test_baselines_lead_evenly_from_one_keyframe_to_the_other(
    loaded: Callable[[str], TransitionRenderer], name: str
) -> None:
    (forward,) = loaded(name)([transition()])
    shot = transition()
    (backward,) = loaded(name)([replace(shot, first=shot.last, last=shot.first)])
    torch.testing.assert_close(backward, forward.flip(0), atol=1e-2, rtol=1e-2)


def test_a_sparse_control_is_told_both_keyframes_and_that_the_rest_is_unknown() -> None:
    torch.manual_seed(0)
    asked: list[dict[str, Any]] = []

    def controlnet(*_: Any, **options: Any) -> tuple[list[Tensor], Tensor]:
        asked.append(options)
        return [], torch.zeros(1)

    class Unet:
        dtype = torch.float32

        def __call__(self, sample: Tensor, timestep: Tensor, **_: Any) -> Tensor:
            return sample

    keyframes = torch.randn(2, 4, 2, 8, 8)
    guided = SparseControl(controlnet=controlnet, scale=1.0).guiding(Unet(), keyframes, 5)
    guided(torch.zeros(4, 4, 5, 8, 8), torch.tensor(1), encoder_hidden_states=torch.zeros(20, 7, 8))
    told, known = asked[0]["controlnet_cond"], asked[0]["conditioning_mask"]
    torch.testing.assert_close(told[:, :, [0, -1]], keyframes.repeat(2, 1, 1, 1, 1))
    assert told[:, :, 1:-1].abs().max() == 0
    assert known[:, 0, :, 0, 0].tolist() == [[1, 0, 0, 0, 1]] * 4


def test_without_keyframe_reading_a_sparse_control_still_knows_the_keyframes(
    config: Callable[[str], MotionConfig],
) -> None:
    parts = SparseControlConfig(read_keyframes=False, anchor="noised")
    renderer = build_renderer(config("sparse_control").model_copy(update={"renderer": parts}))
    shot = transition()
    (plain,), (other,) = (renderer([one]) for one in (shot, replace(shot, last=transition(2).last)))
    assert (plain - other)[1].abs().mean() > 1e-4


def test_a_sparse_control_for_drawings_is_refused(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    drawings = tiny_sparse_controlnet(
        use_simplified_condition_embedding=False,
        conditioning_channels=3,
        conditioning_embedding_out_channels=(4, 4, 8),
    )
    drawings.save_pretrained(tmp_path)
    parts = SparseControlConfig(sparse_controlnet=PartConfig(path=str(tmp_path)))
    with pytest.raises(ValueError, match=r"controlnet: reads drawings .* allowed are"):
        build_renderer(config("sparse_control").model_copy(update={"renderer": parts}))


@pytest.mark.parametrize("end", ["first", "last"])
def test_wan_is_given_both_frames(loaded: Callable[[str], TransitionRenderer], end: str) -> None:
    shot = transition()
    changed = replace(shot, **{end: transition(5).first})
    (plain,), (other,) = (loaded(WAN)([one]) for one in (shot, changed))
    assert (plain - other).abs().mean() > 1e-3


def test_a_wan_model_of_texts_alone_is_refused(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    tiny_wan(version="2.2", in_channels=16).save_pretrained(tmp_path)
    texts = config(WAN).model_copy(update={"model": ModelConfig(path=str(tmp_path))})
    with pytest.raises(ValueError, match=r"reads 16 channels.* allowed are image-to-video models"):
        build_renderer(texts)


def test_keyframes_that_wan_cannot_hold_are_refused(
    loaded: Callable[[str], TransitionRenderer],
) -> None:
    odd = torch.zeros(3, 40, 32)
    with pytest.raises(ValueError, match="32 x 40 pixels, both must be multiples of 16"):
        loaded(WAN)([transition(first=odd, last=odd)])


def lora_file(folder: Path, prefix: str, *, down: str = "lora_down", up: str = "lora_up") -> str:
    """A LoRA of rank 1 for the first attention of a tiny Wan, as published files name it."""
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for layer in ("q", "k", "v", "o"):
        name = f"{prefix}blocks.0.self_attn.{layer}"
        tensors[f"{name}.{down}.weight"] = torch.randn(1, 24, generator=generator)
        tensors[f"{name}.{up}.weight"] = torch.randn(24, 1, generator=generator)
    save_file(tensors, folder / "lora.safetensors")
    return "lora.safetensors"


def test_a_lora_is_added_to_the_weights_of_its_layers(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    weight_name = lora_file(tmp_path, "diffusion_model.")
    lora = LoraConfig(path=str(tmp_path), weight_name=weight_name, scale=0.5)
    plain, changed = (
        build_renderer(config(WAN).model_copy(update={"renderer": parts}))
        for parts in (FirstLastFrameConfig(), FirstLastFrameConfig(lora=lora))
    )
    before, after = (
        renderer._pipeline.transformer.state_dict()  # type: ignore[attr-defined]
        for renderer in (plain, changed)
    )
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    kinds = ("to_q", "to_k", "to_v", "to_out.0")
    assert differ == {f"blocks.0.attn1.{kind}.weight" for kind in kinds}
    change = after["blocks.0.attn1.to_q.weight"] - before["blocks.0.attn1.to_q.weight"]
    assert torch.linalg.matrix_rank(change, atol=1e-4) == 1


def test_a_lora_of_another_family_is_refused_by_name(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    tensors = {
        "transformer.blocks.9.attn1.to_q.lora_A.weight": torch.zeros(1, 24),
        "transformer.blocks.9.attn1.to_q.lora_B.weight": torch.zeros(24, 1),
    }
    save_file(tensors, tmp_path / "other.safetensors")
    lora = LoraConfig(path=str(tmp_path), weight_name="other.safetensors")
    parts = FirstLastFrameConfig(lora=lora)
    with pytest.raises(ValueError, match=r"other\.safetensors: .*blocks\.9.* no such layer"):
        build_renderer(config(WAN).model_copy(update={"renderer": parts}))


def test_a_lora_for_low_noise_needs_wan_2_2(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    lora = LoraConfig(path=str(tmp_path), weight_name=lora_file(tmp_path, "diffusion_model."))
    parts = FirstLastFrameConfig(low_noise_lora=lora)
    with pytest.raises(ValueError, match=r"lora\.safetensors is for transformer_2.* Wan 2\.2"):
        build_renderer(config(WAN).model_copy(update={"renderer": parts}))
    build_renderer(config(f"{WAN} 2.2").model_copy(update={"renderer": parts}))


def test_a_configuration_of_an_earlier_version_is_read_as_it_was_meant() -> None:
    everything: dict[str, Any] = {
        "renderer": "image_prompt",
        "anchor": "noised",
        "read_keyframes": False,
        "motion_predictor": {"subfolder": "motion_predictor"},
        "ip_adapter": {"scale": 0.4},
        "num_frames": 8,
    }
    read = MotionConfig.model_validate(everything)
    assert isinstance(read.renderer, ImagePromptConfig)
    assert (read.renderer.anchor, read.renderer.read_keyframes) == ("noised", False)
    assert read.renderer.ip_adapter.scale == pytest.approx(0.4)
    assert isinstance(MotionConfig.model_validate({}).renderer, SemanticMotionConfig)
    assert isinstance(
        MotionConfig.model_validate({"renderer": "dissolve"}).renderer, DissolveConfig
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "dissolve", "anchor": "clean"}, "anchor"),
        ({"kind": "film"}, "'semantic_motion', 'image_prompt'"),
        ({"kind": "latent_interpolation", "lora": {}}, "lora"),
    ],
)
def test_a_key_that_a_renderer_does_not_have_is_refused(
    table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MotionConfig.model_validate({"renderer": table})
    assert LatentInterpolationConfig().kind == "latent_interpolation"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"image_token_dim": 16}, "image_token_dim 16, .* have 32"),
        ({"num_tokens": 50}, "num_tokens 50, .* have 5"),
        ({"cross_attention_dim": 64}, "cross_attention_dim 64, .* have 32"),
    ],
)
def test_a_predictor_of_another_encoder_or_video_model_is_refused_by_name(
    config: Callable[[str], MotionConfig], tmp_path: Path, other: dict[str, int], told: str
) -> None:
    shape = {"image_token_dim": 32, "num_tokens": 5, "cross_attention_dim": 32, "hidden_dim": 32}
    SemanticMotionPredictor(**{**shape, **other}, num_layers=1).save_pretrained(tmp_path)
    parts = SemanticMotionConfig(motion_predictor=PartConfig(path=str(tmp_path)))
    with pytest.raises(ValueError, match=f"motion_predictor: was trained for {told}"):
        build_renderer(config("semantic_motion").model_copy(update={"renderer": parts}))


def test_a_motion_adapter_of_another_family_is_refused_by_name(
    config: Callable[[str], MotionConfig], tmp_path: Path
) -> None:
    MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
    ).save_pretrained(tmp_path)
    parts = SparseControlConfig(motion_adapter=PartConfig(path=str(tmp_path)))
    with pytest.raises(ValueError, match=r"motion_adapter: does not fit the UNet .* same family"):
        build_renderer(config("sparse_control").model_copy(update={"renderer": parts}))
