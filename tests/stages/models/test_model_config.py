from pathlib import Path

import pytest

from storyreel.stages.keyframes.config import ControlNetConfig, ImagePromptConfig, KeyframesConfig
from storyreel.stages.models.config import (
    ModelConfig,
    PartConfig,
    model_revision,
    model_revisions,
    resolve,
)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "model.CKPT", "x.pt", "a.py"])
def test_a_folder_with_anything_that_can_run_code_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"")
    (tmp_path / name).write_bytes(b"")
    for use in (resolve, lambda path: model_revision(path, None)):
        with pytest.raises(ValueError, match=f"holds {Path(name).name}; weights must be safe"):
            use(str(tmp_path))


def test_the_bundled_model_and_a_repository_of_the_hub_are_let_through() -> None:
    assert resolve("models/pocket").endswith("models/pocket")
    assert resolve("organisation/model") == "organisation/model"


def test_other_weights_in_the_folder_of_any_part_are_other_models(tmp_path: Path) -> None:
    """A night must not go on with pictures that another ControlNet made."""
    places = {name: tmp_path / name for name in ("model", "control", "encoder")}
    for folder in places.values():
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"before")
    config = KeyframesConfig(
        model=ModelConfig(path=str(places["model"])),
        image_prompt=ImagePromptConfig(
            path="organisation/adapter",
            revision="abc",
            image_encoder=PartConfig(path=str(places["encoder"])),
        ),
        controlnet=ControlNetConfig(path=str(places["control"])),
    )
    seen = [model_revisions(config)]
    assert set(seen[0]) == {*map(str, places.values()), "organisation/adapter@abc"}
    for folder in places.values():
        (folder / "model.safetensors").write_bytes(b"after")
        seen.append(model_revisions(config))
        assert seen[-1] not in seen[:-1]
