"""The autoencoder's training on a small, really drawn world."""

from pathlib import Path

import numpy as np
import pytest
import torch

from storyreel.training.config import TrainingConfig
from storyreel.training.data import Pictures, open_images, to_pixels, to_tensor
from storyreel.training.parts.vae import (
    encode_latents,
    latent_scale,
    random_crops,
    train_decoder,
    train_encoder,
)

SHORT = {"num_steps": 2, "batch_size": 2, "learning_rate": 1e-3}


def config() -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "world": {"num_images": 8, "num_clips": 1, "image_size": 64, "num_held_out": 2},
            "vae": {
                **SHORT,
                "decoder": SHORT,
                "block_out_channels": [8, 8, 8, 8],
                "crop_size": 32,
            },
            "clip": SHORT,
            "images": SHORT,
            "predictor": SHORT,
            "motion": SHORT,
        }
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return open_images(tmp_path_factory.mktemp("world"), config().world, seed=0)


def test_pixels_survive_the_way_to_tensors_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(to_pixels(to_tensor(pixels)), pixels)


def test_the_same_seed_draws_the_same_world(pictures: Pictures, tmp_path: Path) -> None:
    again = open_images(tmp_path, config().world, seed=0)
    np.testing.assert_array_equal(again.pixels, pictures.pixels)
    assert again.captions == pictures.captions


def test_held_out_pictures_are_never_cropped_for_training(pictures: Pictures) -> None:
    marked = np.zeros_like(pictures.pixels)
    marked[pictures.num_training :] = 255
    held_out = Pictures(
        pixels=marked,
        captions=[],
        classes=pictures.classes,
        figures=[],
        num_training=pictures.num_training,
    )
    crops = random_crops(held_out, 32, 50, torch.Generator().manual_seed(0))
    assert crops.shape == (50, 3, 32, 32)
    assert (crops == -1).all()


def test_latents_leave_the_autoencoder_with_unit_spread(pictures: Pictures, tmp_path: Path) -> None:
    vae = train_encoder(config(), pictures, tmp_path)
    latents = encode_latents(vae, to_tensor(pictures.pixels))
    assert latents.shape == (8, 8, 8, 8)
    assert float(latents.std()) == pytest.approx(1, abs=0.02)
    assert latent_scale(vae, pictures) == pytest.approx(vae.config.scaling_factor)


def test_training_the_decoder_moves_no_latent(pictures: Pictures, tmp_path: Path) -> None:
    vae = train_encoder(config(), pictures, tmp_path)
    refined = train_decoder(config(), vae, pictures, tmp_path)
    images = to_tensor(pictures.pixels)
    torch.testing.assert_close(encode_latents(refined, images), encode_latents(vae, images))
    with torch.no_grad():
        latents = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
        assert not torch.equal(refined.decode(latents).sample, vae.decode(latents).sample)
