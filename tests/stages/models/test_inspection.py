"""A checkpoint that would not load is found by its headers, before the night."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from storyreel.stages.models.config import PACKAGE_ROOT
from storyreel.stages.models.weights.inspection import check_pipeline
from tests.stages.tiny import FAMILIES, Family, save_tiny_pipeline, tiny_pipeline

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_checkpoints_pass_in_both_precisions(family: Family, tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path / "plain", family)
    tiny_pipeline(family).save_pretrained(tmp_path / "half", variant="fp16")
    num_parts = check_pipeline(tmp_path / "plain", None)
    assert num_parts == check_pipeline(tmp_path / "half", "fp16") >= 5


def test_the_bundled_family_passes() -> None:
    assert check_pipeline(PACKAGE_ROOT / "models" / "pocket", None) >= 5


def test_what_is_wrong_is_said_with_the_part_it_is_in(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    whole = load_file(folder / UNET)
    first = next(iter(whole))
    save_file({name: x for name, x in whole.items() if name != first}, folder / UNET)
    with pytest.raises(ValueError, match=rf"unet: lacks 1 weights, such as {first}"):
        check_pipeline(folder, None)
    save_file(whole | {first: whole[first][:1].clone()}, folder / UNET)
    with pytest.raises(ValueError, match=rf"unet: {first} is .*, its config.json asks for"):
        check_pipeline(folder, None)
    (folder / UNET).unlink()
    with pytest.raises(ValueError, match=r"unet: holds no \.safetensors file"):
        check_pipeline(folder, None)
    save_file(whole, folder / UNET)
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"tokenizer: no CLIPTokenizer"):
        check_pipeline(folder, None)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ValueError, match="names tokenizer, but there is no such folder"):
        check_pipeline(folder, None)


def test_parts_that_are_left_out_on_purpose_are_not_missed(tmp_path: Path) -> None:
    folder = save_tiny_pipeline(tmp_path / "family", "sd15")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    check_pipeline(folder, None)
