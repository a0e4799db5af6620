"""Control images in the keyframes stage: real UNets of every family, a real ControlNet in each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image

from storyreel.stages.keyframes.config import ControlNetConfig
from storyreel.stages.keyframes.stage import (
    KeyframesConfig,
    KeyframesStage,
    KeyframesUnit,
    ReferenceImage,
)
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.loading import load_pipeline
from storyreel.stages.output.records import Keyframe
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import (
    FAMILIES,
    Family,
    save_tiny_controlnet,
    save_tiny_image_prompt,
    save_tiny_pipeline,
)

ALONE = {"coverage": "none"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    root = tmp_path_factory.mktemp("models")
    folders = {
        family: save_tiny_image_prompt(save_tiny_pipeline(root / family, family), family)
        for family in FAMILIES
    }
    for family, folder in folders.items():
        save_tiny_controlnet(folder / "controlnet", family)
    return folders


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with two control images, as a job copies them."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "references").mkdir()
    for index, name in enumerate(("pose", "edges")):
        noise = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(noise).save(folder / "references" / f"{name}.png")
    return folder


def unit_of(*control_images: str | None) -> KeyframesUnit:
    """A story with a panel for each of the control images."""
    panels = tuple(
        panel_of(index, "Girl", control_image=f"references/{name}.png" if name else None)
        for index, name in enumerate(control_images)
    )
    return KeyframesUnit(story_id="the-kite", panels=panels, reference_images=())


def stage_of(
    folder: Path, output: Path, controlnet: dict[str, Any] | None = None, **options: Any
) -> KeyframesStage:
    given = {"width": 32, "height": 24, "num_inference_steps": 4, **options}
    place = {"path": str(folder / "controlnet"), **(controlnet or {})}
    config = KeyframesConfig.model_validate(
        {"model": ModelConfig(path=str(folder)), "controlnet": place, **given}
    )
    return KeyframesStage(output_url=str(output), config=config)


def sha256_of(keyframes: Sequence[Keyframe]) -> list[str]:
    return [keyframe.sha256 for keyframe in keyframes]


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_panel_is_what_the_control_pipeline_of_diffusers_renders(
    folders: dict[Family, Path], output: Path, family: Family, guidance_scale: float
) -> None:
    stage = stage_of(
        folders[family],
        output,
        {"conditioning_scale": 0.8},
        guidance_scale=guidance_scale,
        height=32,
    )
    unit = unit_of("pose")
    start = stage._start(unit, [])
    embeds = replace(stage._encode(unit.panels, 0), control_images=stage._control_images(unit, 0))
    ours = stage._denoise(start, embeds)

    plain = load_pipeline(ModelConfig(path=str(folders[family])))
    control = ControlNetModel.from_pretrained(folders[family] / "controlnet")
    kind: Any = (
        StableDiffusionXLControlNetPipeline
        if family == "sdxl"
        else StableDiffusionControlNetPipeline
    )
    options = {} if family == "sdxl" else {"requires_safety_checker": False}
    pipeline = kind(**plain.components, controlnet=control, **options)
    pipeline.scheduler = stage._denoise._scheduler
    theirs = pipeline(
        prompt=unit.panels[0].prompt,
        negative_prompt=unit.panels[0].negative_prompt,
        image=embeds.control_images[0][None],
        controlnet_conditioning_scale=0.8,
        latents=start.noise,
        width=32,
        height=32,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_control_image_moves_its_own_panel_and_no_other(
    folders: dict[Family, Path], output: Path, family: Family
) -> None:
    stage = stage_of(folders[family], output, consistency=ALONE, batch_size=2)
    without = sha256_of(stage(unit_of(None, None, None)))
    posed = sha256_of(stage(unit_of(None, "pose", None)))
    both = sha256_of(stage(unit_of("edges", "pose", None)))
    assert [a == b for a, b in zip(without, posed, strict=True)] == [True, False, True]
    assert [a == b for a, b in zip(posed, both, strict=True)] == [False, True, True]


@pytest.mark.parametrize("coverage", ["window", "star"])
@pytest.mark.parametrize("family", FAMILIES)
def test_panels_read_what_control_made_of_each_other(
    folders: dict[Family, Path], output: Path, family: Family, coverage: str
) -> None:
    """Control and consistency go together: the others follow the panel that was posed."""
    stage = stage_of(folders[family], output, consistency={"coverage": coverage})
    without = sha256_of(stage(unit_of(None, None, None)))
    posed = sha256_of(stage(unit_of("pose", None, None)))
    assert not set(without) & set(posed)


@pytest.mark.parametrize("options", [{"conditioning_scale": 0.0}, {"start": 0.0, "end": 0.0}])
def test_a_control_net_without_weight_or_steps_changes_nothing(
    folders: dict[Family, Path], output: Path, options: dict[str, float]
) -> None:
    stage = stage_of(folders["sd15"], output, options)
    assert sha256_of(stage(unit_of("pose", None))) == sha256_of(stage(unit_of(None, None)))


def test_control_works_only_in_its_share_of_the_steps(
    folders: dict[Family, Path], output: Path
) -> None:
    shares = [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.0, 0.0)]
    stages = [
        stage_of(folders["sd15"], output, {"start": start, "end": end}) for start, end in shares
    ]
    assert len({sha256_of(stage(unit_of("pose")))[0] for stage in stages}) == len(shares)


def test_control_goes_together_with_reference_images_and_an_image_prompt(
    folders: dict[Family, Path], output: Path
) -> None:
    """The rows of reference images come before those of the panels, and are not controlled."""
    girl = (ReferenceImage(character="Girl", path="references/edges.png"),)
    prompt = {"path": str(folders["sd15"]), "scale": 0.7}
    stage = stage_of(folders["sd15"], output, consistency=ALONE, image_prompt=prompt)
    without, posed = (
        stage(replace(unit_of(None, name, None), reference_images=girl)) for name in (None, "pose")
    )
    changed = [a != b for a, b in zip(sha256_of(without), sha256_of(posed), strict=True)]
    assert changed == [False, True, False]


def test_the_same_story_in_less_memory_follows_the_same_pose(
    folders: dict[Family, Path], output: Path
) -> None:
    stage = stage_of(folders["sd15"], output)
    whole = stage(unit_of("pose", None, "edges"))
    images = [np.asarray(Image.open(output / k.path)).astype(int) for k in whole]
    for image, k in zip(images, stage.smaller()(unit_of("pose", None, "edges")), strict=True):
        assert np.abs(image - np.asarray(Image.open(output / k.path))).max() <= 2


def test_a_control_image_is_cut_to_shape_and_drawn_on_black(
    folders: dict[Family, Path], output: Path
) -> None:
    lines = Image.new("RGBA", (40, 60), (255, 255, 255, 0))
    lines.paste((0, 200, 0, 255), (10, 20, 30, 40))
    lines.save(output / "references" / "lines.png")
    stage = stage_of(folders["sd15"], output, height=32)
    (image,) = stage._control_images(unit_of("lines"), 0).values()
    expected = np.zeros((32, 32, 3), np.float32)
    expected[8:24, 8:24] = (0, 200 / 255, 0)
    assert image.shape == (3, 32, 32)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 0.05
    assert image[:, 0].max() == image[:, -1].max() == 0


def test_a_control_image_that_is_gone_is_named(folders: dict[Family, Path], output: Path) -> None:
    stage = stage_of(folders["sd15"], output)
    with pytest.raises(ValueError, match=r"story the-kite: control image references/lost\.png"):
        stage(unit_of("lost"))


def test_a_control_net_of_another_family_is_refused_before_rendering(
    folders: dict[Family, Path], output: Path
) -> None:
    other = {"path": str(folders["sdxl"] / "controlnet")}
    with pytest.raises(ValueError, match=r"another family of models: its cross_attention_dim"):
        stage_of(folders["sd15"], output, other)


def test_a_share_of_steps_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start: 0\.8, allowed at most end = 0\.5"):
        ControlNetConfig(path="somewhere", start=0.8, end=0.5)
