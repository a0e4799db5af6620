"""The keyframes stage end to end: a saved pipeline and panels in, published PNGs out."""

import logging
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from PIL import Image

from storyreel.stages.keyframes.stage import (
    KeyframesConfig,
    KeyframesStage,
    KeyframesUnit,
    ReferenceImage,
)
from storyreel.stages.models.config import ModelConfig
from storyreel.stages.models.loading import load_pipeline
from storyreel.stages.output.records import File, Keyframe
from storyreel.stages.output.storage import Output
from tests.stages.keyframes.builders import panel_of
from tests.stages.tiny import (
    FAMILIES,
    Family,
    save_tiny_pipeline,
    tiny_clip,
    tiny_image_processor,
    tiny_pipeline,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny_pipeline(root / family, family) for family in FAMILIES}


def unit_of(num_panels: int, reference_images: tuple[str, ...] = ()) -> KeyframesUnit:
    panels = tuple(panel_of(i, "Girl") for i in range(num_panels))
    references = tuple(ReferenceImage(character="Girl", path=path) for path in reference_images)
    return KeyframesUnit(story_id="the-kite", panels=panels, reference_images=references)


def stage_of(folder: Path, output: Path, **options: Any) -> KeyframesStage:
    given = {"width": 32, "height": 24, "num_inference_steps": 2, **options}
    config = KeyframesConfig.model_validate({"model": ModelConfig(path=str(folder)), **given})
    return KeyframesStage(output_url=str(output), config=config)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_story_becomes_pngs_with_the_same_bytes_every_time(
    folders: dict[Family, Path], tmp_path: Path, family: Family
) -> None:
    stage = stage_of(folders[family], tmp_path / "a")
    keyframes = stage(unit_of(3))
    assert [keyframe.path for keyframe in keyframes] == [
        f"keyframes/the-kite/{i:04d}.png" for i in range(3)
    ]
    for index, keyframe in enumerate(keyframes):
        file = File(path=keyframe.path, size=keyframe.size, sha256=keyframe.sha256)
        Output(str(tmp_path / "a")).read_checked(file)
        with Image.open(tmp_path / "a" / keyframe.path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 24))
        assert (keyframe.width, keyframe.height, keyframe.seed) == (32, 24, 100 + index)
    assert len({keyframe.sha256 for keyframe in keyframes}) == 3
    assert stage(unit_of(3)) == keyframes
    assert stage_of(folders[family], tmp_path / "b")(unit_of(3)) == keyframes


def test_other_stories_in_between_change_nothing(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    options = {"scheduler": {"name": "dpmsolver++"}, "num_inference_steps": 4}
    stage = stage_of(folders["sd21"], tmp_path, **options)
    first = stage(unit_of(3))
    stage(unit_of(1))
    assert stage(unit_of(3)) == first


def test_a_reference_image_of_a_character_changes_the_keyframes(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    paths = []
    for name, colour in (("red", (250, 20, 20)), ("blue", (20, 20, 250))):
        paths.append(f"{name}.png")
        Image.new("RGB", (60, 90), colour).save(tmp_path / paths[-1])
    stage = stage_of(folders["sd15"], tmp_path)
    sha256 = {stage(unit_of(2, images))[1].sha256 for images in ((), paths[:1], paths[1:])}
    assert len(sha256) == 3


def test_a_reference_image_survives_the_way_to_latents_and_back(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    stage = stage_of(folders["sd15"], tmp_path)
    vae = stage._pipeline.vae
    image = Image.effect_noise((32, 24), 60).convert("RGB")
    latents = stage._encode_image(image)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 24, 32, 3)
    with torch.inference_mode():
        encoded = vae.encode(pixels.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mode()
        decoded = vae.decode(encoded).sample.permute(0, 2, 3, 1)
    torch.testing.assert_close(latents[None], encoded * vae.config.scaling_factor)
    torch.testing.assert_close(stage._decode(latents[None]), decoded)


def sha256_of(keyframes: Sequence[Keyframe]) -> list[str]:
    return [keyframe.sha256 for keyframe in keyframes]


def test_what_a_tall_reference_image_shows_at_its_ends_is_seen(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    """A standing figure: its head and its feet are outside a keyframe's shape."""
    for name, colour in (("red", (250, 20, 20)), ("blue", (20, 20, 250))):
        figure = Image.new("RGB", (30, 90), (90, 90, 90))
        figure.paste(colour, (0, 0, 30, 15))
        figure.paste(colour, (0, 75, 30, 90))
        figure.save(tmp_path / f"{name}.png")
    stage = stage_of(folders["sd15"], tmp_path)
    red, blue = (sha256_of(stage(unit_of(2, (f"{name}.png",)))) for name in ("red", "blue"))
    assert red != blue


def test_a_cut_out_stands_on_white_whatever_it_hides(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    figure = (8, 6, 24, 18)
    for name, background in (
        ("black", (0, 0, 0, 0)),
        ("green", (0, 255, 0, 0)),
        ("white", (255, 255, 255, 255)),
    ):
        picture = Image.new("RGBA", (32, 24), background)
        picture.paste((200, 30, 40, 255), figure)
        picture.save(tmp_path / f"{name}.png")
    stage = stage_of(folders["sd15"], tmp_path)
    black, green, white = (
        sha256_of(stage(unit_of(2, (f"{name}.png",)))) for name in ("black", "green", "white")
    )
    assert black == green == white


def test_the_reference_image_of_somebody_whom_no_panel_shows_costs_and_changes_nothing(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    Image.new("RGB", (32, 24), (250, 20, 20)).save(tmp_path / "girl.png")
    stage = stage_of(folders["sd15"], tmp_path)
    girl = unit_of(2, ("girl.png",))
    fox = ReferenceImage(character="Fox", path="never-read.png")
    both = replace(girl, reference_images=(fox, *girl.reference_images))
    assert stage(both) == stage(girl)


def test_reference_images_that_leave_no_room_for_a_window_are_refused_by_name(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    Image.new("RGB", (32, 24), (250, 20, 20)).save(tmp_path / "girl.png")
    images = ("girl.png", "girl.png")
    for coverage, fitting in (("window", 2), ("star", 4), ("none", 4)):
        consistency = {"coverage": coverage, "window_size": 3, "max_panels": 4}
        stage = stage_of(folders["sd15"], tmp_path, consistency=consistency)
        assert len(stage(unit_of(fitting, images))) == fitting
    stage = stage_of(folders["sd15"], tmp_path, consistency={"window_size": 3, "max_panels": 4})
    message = r"story the-kite: 2 reference images, allowed are at most 1: .*max_panels = 4"
    with pytest.raises(ValueError, match=message):
        stage(unit_of(3, images))


def test_of_the_decoded_pictures_the_model_holds_one_batch_at_a_time(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    """In half precision what is kept of a batch is a copy, here as on a GPU."""
    stage = stage_of(folders["sd15"], tmp_path, batch_size=1)
    stage._pipeline.vae.to(torch.bfloat16)
    decoded: list[Any] = []
    alive: list[int] = []

    def see(_module: Any, _given: Any, pixels: torch.Tensor) -> None:
        alive.append(sum(one() is not None for one in decoded))
        decoded.append(weakref.ref(pixels))

    stage._pipeline.vae.decoder.register_forward_hook(see)
    stage._decode(torch.randn(6, *stage._latent_shape()))
    assert len(alive) == 6
    assert max(alive) <= 1


class Warnings(logging.Handler):
    """Collects what a library warns of, but for the advice to install another one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "pip install" not in record.getMessage():
            self.messages.append(record.getMessage())


@pytest.fixture
def warnings_of_diffusers() -> Iterator[list[str]]:
    handler, logger = Warnings(), logging.getLogger("diffusers")
    logger.addHandler(handler)
    yield handler.messages
    logger.removeHandler(handler)


def test_a_safety_checker_is_not_loaded(tmp_path: Path, warnings_of_diffusers: list[str]) -> None:
    pipeline = tiny_pipeline("sd15")
    config = tiny_clip().config
    config._attn_implementation = "eager"
    checker = StableDiffusionSafetyChecker(config)
    pipeline.register_modules(safety_checker=checker, feature_extractor=tiny_image_processor())
    pipeline.register_to_config(requires_safety_checker=True)
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    assert load_pipeline(ModelConfig(path=str(tmp_path))).safety_checker is None
    assert warnings_of_diffusers == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_without_a_safety_checker_is_loaded_without_a_warning(
    folders: dict[Family, Path], family: Family, warnings_of_diffusers: list[str]
) -> None:
    load_pipeline(ModelConfig(path=str(folders[family])))
    assert warnings_of_diffusers == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("broken.png", "is not an image"),
        ("missing.png", "missing from"),
        ("../girl.png", "leaves the output"),
        ("/etc/hostname", "leaves the output"),
        ("http://127.0.0.1/girl.png", "missing from"),
    ],
)
def test_a_reference_image_that_cannot_be_read_is_named(
    folders: dict[Family, Path], tmp_path: Path, path: str, reason: str
) -> None:
    Image.new("RGB", (60, 90)).save(tmp_path / "girl.png")
    stage = stage_of(folders["sd15"], tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=f"story the-kite: reference image {path}: .*{reason}"):
        stage(unit_of(2, (path,)))


@pytest.mark.parametrize(("bias", "reason"), [(-50.0, "a black image"), (float("nan"), "finite")])
def test_a_broken_image_is_an_error_that_names_the_keyframe_and_publishes_nothing(
    folders: dict[Family, Path], tmp_path: Path, bias: float, reason: str
) -> None:
    stage = stage_of(folders["sd15"], tmp_path)
    torch.nn.init.constant_(stage._pipeline.vae.decoder.conv_out.bias, bias)
    with pytest.raises(ValueError, match=f"story the-kite: keyframe 0: .*{reason}"):
        stage(unit_of(2))
    assert Output(str(tmp_path)).names("keyframes") == []


def test_a_size_that_the_vae_cannot_hold_is_refused_before_rendering(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"keyframes\.width: 30, allowed are multiples of 4"):
        stage_of(folders["sd15"], tmp_path, width=30)


def test_a_stage_whose_attention_was_replaced_refuses_to_render(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    stage = stage_of(folders["sd15"], tmp_path)
    stage._pipeline.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(RuntimeError, match="Consistent Self-Attention was replaced"):
        stage(unit_of(2))
