from pathlib import Path

import pytest

from stages.model_config import ModelConfig, model_revision, resolve


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "model.CKPT", "x.pt", "a.py"])
def test_a_folder_with_anything_that_can_run_code_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"")
    (tmp_path / name).write_bytes(b"")
    for use in (resolve, lambda path: model_revision(ModelConfig(path=path))):
        with pytest.raises(ValueError, match=f"holds {Path(name).name}; weights must be safe"):
            use(str(tmp_path))


def test_the_bundled_model_and_a_repository_of_the_hub_are_let_through() -> None:
    assert resolve("models/pocket").endswith("models/pocket")
    assert resolve("organisation/model") == "organisation/model"
