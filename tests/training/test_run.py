"""The whole training, tiny, on the real world and the real models."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter, StableDiffusionPipeline, UNetMotionModel
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training.__main__ import TrainingRun
from storyreel.training.config import TrainingConfig

CONFIG = """
num_threads = 1

[world]
num_images = 12
num_clips = 4
num_frames = 4
image_size = 64
num_held_out = 2
num_workers = 1

[tokenizer]
num_captions = 50

[vae]
block_out_channels = [8, 8, 8, 8]
num_steps = 2
batch_size = 2
learning_rate = 1e-3

[vae.decoder]
num_steps = 2
batch_size = 2
learning_rate = 1e-3

[clip]
text_dim = 32
image_dim = 32
text_layers = 1
image_layers = 1
num_steps = 2
batch_size = 8
learning_rate = 1e-3

[images]
block_out_channels = [16, 32]
image_tokens_share = 0.5
num_steps = 2
batch_size = 2
learning_rate = 1e-3

[predictor]
min_frames = 3
num_layers = 2
hidden_dim = 32
num_steps = 2
batch_size = 2
learning_rate = 1e-3

[motion]
clip_batch_size = 2
tokens_dropout = 0.5
num_steps = 4
batch_size = 2
learning_rate = 1e-3

[image_prompt]
num_steps = 2
batch_size = 2

[truth]
channels = [8, 8, 8]
num_reconstructed = 4
num_steps = 2
batch_size = 2
learning_rate = 1e-3
"""


def train(folder: Path, output: Path) -> None:
    """What `make pocket` runs: every stage, in two processes."""
    (folder / "run.toml").write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    run = ["-m", "training", "--config", folder / "run.toml", "--work", folder / "work"]
    run += ["--device", "cpu"]
    subprocess.run(
        [*launcher, "--nproc-per-node", "2", *run, "--output", output],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def family(work: Path) -> Path:
    """A family that was trained from nothing."""
    train(work, work / "family")
    return work / "family"


def test_the_family_makes_a_picture_in_the_stock_pipeline(family: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(family)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a fox walks in the park", num_inference_steps=2).images[0]
    assert image.size == (64, 64)


def test_the_family_moves_a_clip_under_text_and_predicted_tokens(family: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(family)
    adapter = MotionAdapter.from_pretrained(family, subfolder="motion_adapter")
    predictor = SemanticMotionPredictor.from_pretrained(family, subfolder="motion_predictor")
    encoder = CLIPVisionModelWithProjection.from_pretrained(family, subfolder="image_encoder")
    extractor = CLIPImageProcessor.from_pretrained(family, subfolder="feature_extractor")
    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    pixels = extractor([np.zeros((64, 64, 3), np.uint8)] * 2, return_tensors="pt").pixel_values
    first, last = encoder(pixels).last_hidden_state.split(1)
    projected = predictor.project(predictor(first, last, 4))[0]
    text = pipeline.encode_prompt("a fox", "cpu", 1, False)[0].expand(4, -1, -1)
    context = torch.cat([text, projected], dim=1)
    clip = torch.randn(1, unet.config.in_channels, 4, 8, 8)
    assert unet(clip, 500, encoder_hidden_states=context).sample.shape == clip.shape


def test_weights_are_half_precision_safetensors_and_nothing_is_pickled(family: Path) -> None:
    files = [path for path in family.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in family.rglob("*.safetensors"):
        assert {weight.dtype for weight in load_file(path).values()} == {torch.float16}


def test_every_part_of_the_bundled_family_is_trained(family: Path) -> None:
    assert parts(family) == parts(Path("models/pocket"))


def test_the_bundled_family_stays_small() -> None:
    """Every version of it stays in the history of whoever clones."""
    assert sum(path.stat().st_size for path in Path("models").rglob("*")) <= 40 * 10**6


def parts(family: Path) -> set[str]:
    return {str(path.relative_to(family).parent) for path in family.rglob("*.safetensors")}


@pytest.mark.slow
def test_a_finished_run_trains_nothing_again(work: Path, family: Path, tmp_path: Path) -> None:
    before = written(work / "work")
    train(work, tmp_path / "again")
    assert written(work / "work") == before
    for path in family.rglob("*.safetensors"):
        again = tmp_path / "again" / path.relative_to(family)
        assert again.read_bytes() == path.read_bytes()


def written(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_work_of_another_configuration_is_not_mixed_with_this_one(
    work: Path, family: Path
) -> None:
    before = written(work / "work")
    (work / "other.toml").write_text(CONFIG.replace("num_images = 12", "num_images = 16"))
    with pytest.raises(ValueError, match="another configuration"):
        TrainingRun(TrainingConfig.read(work / "other.toml"), work / "work")
    assert written(work / "work") == before


def test_every_shipped_training_config_is_valid() -> None:
    paths = sorted(Path("configs/training").glob("*.toml"))
    assert paths
    for path in paths:
        TrainingConfig.read(path)


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    text = Path("configs/training/pocket.toml").read_text()
    path = tmp_path / "run.toml"
    path.write_text(text.replace("[vae]", "[vae]\nlearning_rte = 1"))
    with pytest.raises(ValueError, match="learning_rte"):
        TrainingConfig.read(path)


def test_a_clip_shorter_than_its_shortest_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.replace("min_frames = 3", "min_frames = 6"))
    with pytest.raises(ValueError, match=r"min_frames: 6, allowed at most world.num_frames = 4"):
        TrainingConfig.read(path)
