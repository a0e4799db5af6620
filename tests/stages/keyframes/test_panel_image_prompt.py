"""Image prompts in the keyframes stage: real UNets of every family, a real IP-Adapter in each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file

from storyreel.stages.keyframes.image_prompt import of_one_length
from storyreel.stages.keyframes.stage import (
    KeyframesConfig,
    KeyframesStage,
    KeyframesUnit,
    ReferenceImage,
)
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.loading import load_pipeline
from storyreel.stages.models.unet_attention import (
    ConsistentAttnProcessor,
    assert_installed,
    install_attention,
)
from storyreel.stages.output.records import Keyframe, Panel
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import (
    EMBEDDING_WIDTH,
    FAMILIES,
    Family,
    save_tiny_image_prompt,
    save_tiny_pipeline,
    tiny_ip_adapter,
    tiny_unet,
)

COVERAGES = ("window", "star", "none")
ENCODERS = ("sd15", "sdxl")
"""The families with one text encoder and with two; sd21 is built as sd15."""
ON: dict[str, Any] = {"scale": 1.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        family: save_tiny_image_prompt(save_tiny_pipeline(root / family, family), family)
        for family in FAMILIES
    }


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """The reference images of three characters, of different sizes, as a job copies them."""
    folder = tmp_path / "references"
    folder.mkdir()
    paths = {}
    for index, name in enumerate(("Girl", "Fox", "Robot")):
        noise = np.random.default_rng(index).integers(0, 256, (40 + 8 * index, 48, 3), np.uint8)
        paths[name] = str(folder / f"{name}.png")
        Image.fromarray(noise).save(paths[name])
    return paths


def unit_of(panels: Sequence[Panel], references: dict[str, str] | None = None) -> KeyframesUnit:
    paths = {name: f"references/{Path(path).name}" for name, path in (references or {}).items()}
    images = tuple(ReferenceImage(character=c, path=p) for c, p in paths.items())
    return KeyframesUnit(story_id="the-kite", panels=tuple(panels), reference_images=images)


def stage_of(
    folder: Path, output: Path, image_prompt: dict[str, Any] | None = ON, **options: Any
) -> KeyframesStage:
    adapter = None if image_prompt is None else {"path": str(folder), **image_prompt}
    given = {"width": 32, "height": 24, "num_inference_steps": 2, **options}
    config = KeyframesConfig.model_validate(
        {"model": ModelConfig(path=str(folder)), "image_prompt": adapter, **given}
    )
    return KeyframesStage(output_url=str(output), config=config)


def pixels_of(keyframes: Sequence[Keyframe], output: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(output / keyframe.path)) for keyframe in keyframes])


def sha256_of(keyframes: Sequence[Keyframe]) -> list[str]:
    return [keyframe.sha256 for keyframe in keyframes]


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
def test_without_its_scale_an_adapter_changes_nothing_and_with_it_every_panel(
    folders: dict[Family, Path],
    pictures: dict[str, str],
    tmp_path: Path,
    family: Family,
    coverage: str,
    guidance_scale: float,
) -> None:
    options: dict[str, Any] = {
        "consistency": {"coverage": coverage, "window_size": 2, "num_references": 2},
        "guidance_scale": guidance_scale,
    }
    unit = unit_of([panel_of(i, "Girl") for i in range(4)], {"Girl": pictures["Girl"]})
    without = stage_of(folders[family], tmp_path, None, **options)(unit)
    stage = stage_of(folders[family], tmp_path, ON, **options)
    assert stage._image_prompt is not None
    with stage._image_prompt.off():
        assert sha256_of(stage(unit)) == sha256_of(without)
    full = stage(unit)
    assert all(a != b for a, b in zip(sha256_of(full), sha256_of(without), strict=True))


def test_scale_zero_in_the_config_is_no_adapter(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path
) -> None:
    unit = unit_of([panel_of(0, "Girl"), panel_of(1)], pictures)
    without = stage_of(folders["sd15"], tmp_path, None)(unit)
    at_zero = stage_of(folders["sd15"], tmp_path, {"scale": 0.0})(unit)
    assert sha256_of(at_zero) == sha256_of(without)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_reference_image_changes_the_keyframes(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path, family: Family
) -> None:
    stage = stage_of(folders[family], tmp_path, consistency={"coverage": "none"})
    panels = [panel_of(0, "Girl"), panel_of(1, "Girl")]
    first, second = (stage(unit_of(panels, {"Girl": pictures[name]})) for name in ("Girl", "Fox"))
    assert all(a != b for a, b in zip(sha256_of(first), sha256_of(second), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
def test_one_panel_is_what_the_pipeline_of_diffusers_makes_of_the_same_image_prompts(
    folders: dict[Family, Path],
    pictures: dict[str, str],
    tmp_path: Path,
    family: Family,
    guidance_scale: float,
) -> None:
    """Two characters in one panel: both pictures prompt it, the negative branch none."""
    options: dict[str, Any] = {"height": 32, "num_inference_steps": 3}
    stage = stage_of(
        folders[family], tmp_path, {"scale": 0.7}, guidance_scale=guidance_scale, **options
    )
    unit = unit_of([panel_of(0, "Girl", "Fox")], {n: pictures[n] for n in ("Girl", "Fox")})
    alone = replace(unit, reference_images=())  # of the noise; consistency reads no anchors
    tokens = stage._image_tokens(unit, [Image.open(pictures[n]) for n in ("Girl", "Fox")])
    assert tokens is not None
    embeds = replace(stage._encode(alone.panels, 0), image_tokens=tokens[:, 2:])
    ours = stage._denoise(stage._start(alone, []), embeds)

    pipeline = load_pipeline(ModelConfig(path=str(folders[family])))
    pipeline.load_ip_adapter(
        str(folders[family]),
        subfolder="image_prompt",
        weight_name="ip-adapter_pocket.safetensors",
        image_encoder_folder=None,
    )
    pipeline.set_ip_adapter_scale(0.7)
    assert stage._image_prompt is not None
    encoder = stage._image_prompt._image_encoder
    pipeline.register_modules(image_encoder=encoder._model, feature_extractor=encoder._processor)
    pipeline.scheduler = type(stage._denoise._scheduler).from_config(
        stage._denoise._scheduler.config
    )
    theirs = pipeline(
        prompt=unit.panels[0].prompt,
        negative_prompt=unit.panels[0].negative_prompt,
        ip_adapter_image=[[Image.open(pictures[n]) for n in ("Girl", "Fox")]],
        latents=stage._start(alone, []).noise,
        width=32,
        height=32,
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_panel_is_prompted_by_its_own_characters(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path, family: Family
) -> None:
    """Another picture of the Fox changes the panels that show the Fox, and no other."""
    stage = stage_of(folders[family], tmp_path, consistency={"coverage": "none"}, batch_size=3)
    shown = [("Girl",), ("Fox",), (), ("Girl", "Fox"), ("Robot",)]
    panels = [panel_of(i, *names) for i, names in enumerate(shown)]
    before = stage(unit_of(panels, pictures))
    after = stage(unit_of(panels, {**pictures, "Fox": pictures["Robot"]}))
    changed = [a != b for a, b in zip(sha256_of(before), sha256_of(after), strict=True)]
    assert changed == ["Fox" in names for names in shown]


@pytest.mark.parametrize("coverage", COVERAGES)
def test_the_order_in_which_a_story_names_its_characters_moves_no_picture(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path, coverage: str
) -> None:
    """Panels and reference images are rows of one batch; each keeps its own image tokens."""
    stage = stage_of(
        folders["sd15"], tmp_path, consistency={"coverage": coverage, "sampling_rate": 0.0}
    )
    panels = [panel_of(i, name) for i, name in enumerate(pictures)]
    forward = stage(unit_of(panels, pictures))
    images = pixels_of(forward, tmp_path).astype(int)
    stage(unit_of(panels, dict(reversed(pictures.items()))))
    assert np.abs(images - pixels_of(forward, tmp_path)).max() <= 1


@pytest.mark.parametrize("coverage", ["window", "star"])
def test_reference_images_as_anchors_are_prompted_by_themselves(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path, coverage: str
) -> None:
    stage = stage_of(folders["sd15"], tmp_path, consistency={"coverage": coverage})
    unit = unit_of([panel_of(0, "Fox"), panel_of(1)], pictures)
    images = [Image.open(path).convert("RGB") for path in pictures.values()]
    tokens = stage._image_tokens(unit, images)
    assert tokens is not None
    negative, positive = tokens
    assert len(positive) == 5
    assert torch.equal(positive[3], positive[1])
    assert torch.equal(positive[4], negative[0])
    assert torch.equal(negative, negative[:1].expand_as(negative))
    assert len({row.sum().item() for row in positive}) == 4
    assert len(stage(unit)) == 2


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("coverage", COVERAGES)
def test_micro_batches_do_not_change_the_keyframes(
    folders: dict[Family, Path],
    pictures: dict[str, str],
    tmp_path: Path,
    family: Family,
    coverage: str,
) -> None:
    shown = [("Girl",), ("Fox",), (), ("Girl", "Fox"), ("Robot",)]
    unit = unit_of([panel_of(i, *names) for i, names in enumerate(shown)], pictures)
    consistency = {"coverage": coverage, "window_size": 2, "num_references": 1, "end": 0.5}
    images = []
    for batch_size in (1, 2, 5):
        stage = stage_of(folders[family], tmp_path, consistency=consistency, batch_size=batch_size)
        images.append(pixels_of(stage(unit), tmp_path).astype(int))
    assert all(np.abs(other - images[0]).max() <= 1 for other in images[1:])


SHOWN = [(), ("Girl", "Fox"), ("Robot",), ("Fox",), (), ("Girl", "Robot")]
"""A story that opens with an empty place, and its first panel that shows somebody."""


@pytest.mark.parametrize("changed_panel", [0, 1])
def test_without_reference_images_the_first_characters_prompt_the_panels_that_show_them(
    folders: dict[Family, Path], tmp_path: Path, changed_panel: int
) -> None:
    """Another text of that panel changes who follows it, another text of the empty one nobody."""
    stage = stage_of(folders["sd15"], tmp_path, consistency={"coverage": "none"}, batch_size=3)
    panels = [panel_of(i, *names) for i, names in enumerate(SHOWN)]
    before = stage(unit_of(panels))
    panels[changed_panel] = replace(panels[changed_panel], prompt="a castle at night")
    after = stage(unit_of(panels))
    changed = [a != b for a, b in zip(sha256_of(before), sha256_of(after), strict=True)]
    assert (
        changed
        == {
            0: [True, False, False, False, False, False],
            1: [False, True, False, True, False, True],
        }[changed_panel]
    )


def test_panels_without_the_first_characters_are_prompted_by_text_alone(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    stage = stage_of(folders["sd15"], tmp_path)
    tokens = stage._image_tokens(unit_of([panel_of(i, *n) for i, n in enumerate(SHOWN)]), [])
    assert tokens is not None
    negative, positive = tokens
    prompted = [not torch.equal(row, negative[0]) for row in positive]
    assert prompted == [False, True, False, True, False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_characters_and_reference_images_the_first_panel_prompts_the_story(
    folders: dict[Family, Path], tmp_path: Path, family: Family
) -> None:
    """Its picture is the plain one, whatever the other panels and the coverage are."""
    stage = stage_of(folders[family], tmp_path)
    panels = [panel_of(i) for i in range(4)]
    assert stage._image_prompt is not None
    first = stage._render_alone(panels[0], unit_of(panels), stage._image_prompt)
    plain = stage_of(folders[family], tmp_path / "plain", None)(unit_of(panels[:1]))
    assert np.array_equal(np.asarray(first), pixels_of(plain, tmp_path / "plain")[0])
    shuffled = unit_of([panels[0], panels[3], panels[1], panels[2]])
    again = stage._render_alone(panels[0], shuffled, stage._image_prompt)
    assert np.array_equal(np.asarray(first), np.asarray(again))
    tokens = stage._image_tokens(unit_of(panels), [])
    assert tokens is not None
    assert torch.equal(tokens, stage._image_prompt.tokens([first], [(0,)] * len(panels)))


def test_in_first_panel_mode_the_order_of_the_others_changes_no_keyframe(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"consistency": {"coverage": "none"}, "batch_size": 8}
    stage = stage_of(folders["sd15"], tmp_path, **options)
    panels = [panel_of(i) for i in range(4)]
    forward = stage(unit_of(panels))
    assert stage(unit_of(panels)) == forward
    images = pixels_of(forward, tmp_path).astype(int)
    stage(unit_of([panels[0], panels[3], panels[1], panels[2]]))
    assert np.abs(images - pixels_of(forward, tmp_path)).max() <= 1
    stage(unit_of([panels[1], panels[0], panels[2], panels[3]]))
    assert np.abs(images - pixels_of(forward, tmp_path)).max() > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_and_consistent_self_attention_are_both_in_the_unet(
    folders: dict[Family, Path], tmp_path: Path, family: Family
) -> None:
    stage = stage_of(folders[family], tmp_path)
    for name, processor in stage._pipeline.unet.attn_processors.items():
        kind = ConsistentAttnProcessor if ".attn1." in name else IPAdapterAttnProcessor2_0
        assert isinstance(processor, kind), name
    assert_installed(stage._pipeline.unet, stage._attention)


@pytest.mark.parametrize("coverage", ["window", "star"])
def test_with_an_adapter_the_panels_still_read_each_other(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path, coverage: str
) -> None:
    """What another panel's text says must reach this one, as it does without the adapter."""
    stage = stage_of(folders["sd15"], tmp_path, consistency={"coverage": coverage})
    panels = [panel_of(i, "Girl") for i in range(3)]
    before = stage(unit_of(panels, pictures))
    other = [replace(panels[0], prompt="a castle at night"), *panels[1:]]
    after = stage(unit_of(other, pictures))
    assert all(a != b for a, b in zip(sha256_of(before), sha256_of(after), strict=True))


def test_an_adapter_that_is_loaded_after_consistent_self_attention_never_renders(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    """The loader of diffusers rebuilds every processor; in this order it must fail, not drop."""
    pipeline = load_pipeline(ModelConfig(path=str(folders["sd15"])))
    attention = install_attention(pipeline.unet)

    def load_in_the_wrong_order() -> None:
        pipeline.load_ip_adapter(
            str(folders["sd15"]),
            subfolder="image_prompt",
            weight_name="ip-adapter_pocket.safetensors",
            image_encoder_folder=None,
        )
        assert_installed(pipeline.unet, attention)

    with pytest.raises((TypeError, RuntimeError)):
        load_in_the_wrong_order()


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([(0,), (1,)], [(0,), (1,)]),
        ([(0,), (1, 2)], [(0, 0), (1, 2)]),
        ([(0, 1), (0, 1, 2)], [(0, 1) * 3, (0, 1, 2) * 2]),
    ],
)
def test_rows_of_different_numbers_of_pictures_are_repeated_evenly(
    prompts: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    assert of_one_length(prompts) == expected


def test_a_panel_renders_alike_beside_panels_with_more_pictures(
    folders: dict[Family, Path], pictures: dict[str, str], tmp_path: Path
) -> None:
    stage = stage_of(folders["sd21"], tmp_path, consistency={"coverage": "none"})
    one = panel_of(0, "Girl")
    alone = pixels_of(stage(unit_of([one], pictures)), tmp_path).astype(int)
    both = stage(unit_of([one, panel_of(1, "Girl", "Fox", "Robot")], pictures))
    assert np.abs(alone[0] - pixels_of(both, tmp_path)[0]).max() <= 1


def broken_adapter(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    (folder / "image_prompt").mkdir()
    save_file(tensors, folder / "image_prompt" / "ip-adapter_pocket.safetensors")
    return {"path": str(folder)}


def test_an_adapter_of_another_family_is_refused(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    other = broken_adapter(tmp_path, tiny_ip_adapter(tiny_unet("sdxl")))
    with pytest.raises(ValueError, match=r"ip-adapter_pocket\.safetensors: does not fit this UNet"):
        stage_of(folders["sd15"], tmp_path / "out", other)


def test_an_adapter_that_reads_more_than_one_embedding_is_refused(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    source = folders["sd15"] / "image_prompt" / "ip-adapter_pocket.safetensors"
    tensors = {k: v for k, v in load_file(source).items() if k.startswith("ip_adapter.")}
    width = 32
    for name, out in (("proj.0", EMBEDDING_WIDTH), ("proj.2", 4 * width)):
        tensors[f"image_proj.{name}.weight"] = torch.zeros(out, EMBEDDING_WIDTH)
        tensors[f"image_proj.{name}.bias"] = torch.zeros(out)
    tensors["image_proj.norm.weight"] = torch.ones(width)
    tensors["image_proj.norm.bias"] = torch.zeros(width)
    with pytest.raises(ValueError, match="allowed are only adapters of one embedding per image"):
        stage_of(folders["sd15"], tmp_path / "out", broken_adapter(tmp_path, tensors))


def test_an_image_encoder_that_the_adapter_was_not_trained_with_is_refused(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    source = folders["sd15"] / "image_prompt" / "ip-adapter_pocket.safetensors"
    tensors = load_file(source)
    tensors["image_proj.proj.weight"] = torch.zeros(4 * 32, EMBEDDING_WIDTH + 8)
    with pytest.raises(ValueError, match=r"embeddings of 24 channels, .* gives 16"):
        stage_of(folders["sd15"], tmp_path / "out", broken_adapter(tmp_path, tensors))


def test_an_adapter_in_a_pickled_file_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_name"):
        KeyframesConfig.model_validate({"image_prompt": {"weight_name": "ip-adapter_sd15.bin"}})


@pytest.mark.parametrize("scale", [-0.1, 1.1])
def test_a_scale_outside_zero_to_one_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        KeyframesConfig.model_validate({"image_prompt": {"scale": scale}})
