"""`python -m training --config FILE`: train the pocket family from nothing, stage by stage.

An interrupted run continues from its last checkpoint; a finished stage is not repeated. Started by
`torchrun --nproc-per-node N -m training`, N processes share the work of every stage.
"""

import argparse
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import CLIPTokenizer

from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.stages.scoring.measures.truth import TruthEstimator
from storyreel.training import parallel, world
from storyreel.training.config import TrainingConfig
from storyreel.training.data import Pictures, encode_once, open_clips, open_images
from storyreel.training.export import Family, export_family
from storyreel.training.parallel import make_once
from storyreel.training.parts.clip import ClipModels, train_clip
from storyreel.training.parts.image_prompt import export_image_prompt, train_image_prompt
from storyreel.training.parts.images import EncodedImages, build_scheduler, train_images
from storyreel.training.parts.motion import EncodedClips, build_joint, train_motion, train_predictor
from storyreel.training.parts.tokenizer import train_tokenizer
from storyreel.training.parts.truth import export_truth, train_truth
from storyreel.training.parts.vae import encode_latents, train_vae


class TrainingRun:
    """One training run; what a stage needs is made, or read from the work folder, when asked."""

    def __init__(self, config: TrainingConfig, work: Path) -> None:
        """Begin a run, or continue the one in the folder.

        Raises:
            ValueError: the folder holds a run of another configuration.
        """
        self.config = config
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        _claim(work / "config.json", config)

    @cached_property
    def pictures(self) -> Pictures:
        """Single images."""
        return open_images(self.work, self.config.world, seed=self.config.seed)

    @cached_property
    def clip_pictures(self) -> Pictures:
        """Clips."""
        return open_clips(self.work, self.config.world, seed=self.config.seed)

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The vocabulary."""
        path = self.work / "tokenizer"
        make_once(path, self._make_tokenizer)
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(path)
        return tokenizer

    def _make_tokenizer(self, path: Path) -> None:
        rng = np.random.default_rng(self.config.seed)
        count = self.config.tokenizer.num_captions
        captions = [world.caption(world.sample_scene(rng), rng) for _ in range(count)]
        train_tokenizer(captions, self.config.tokenizer).save_pretrained(path)

    @cached_property
    def vae(self) -> Any:
        """The trained autoencoder."""
        return train_vae(self.config, self.pictures, self.work)

    @cached_property
    def clip(self) -> ClipModels:
        """The trained, from here on frozen, encoders."""
        return train_clip(self.config, self.tokenizer, self.pictures, self.clip_pictures, self.work)

    @cached_property
    def encoded_images(self) -> EncodedImages:
        """Single images through the frozen models."""
        vae, clip = self.vae, self.clip
        latents, tokens = (self.work / f"images_{name}.npy" for name in ("latents", "tokens"))
        return EncodedImages(
            latents=encode_once(latents, self.pictures, lambda x: encode_latents(vae, x)),
            tokens=encode_once(tokens, self.pictures, clip.encode_image),
            pictures=self.pictures,
        )

    @cached_property
    def encoded_clips(self) -> EncodedClips:
        """Clips through the frozen models."""
        vae, clip = self.vae, self.clip
        latents, tokens = (self.work / f"clips_{name}.npy" for name in ("latents", "tokens"))
        return EncodedClips(
            latents=encode_once(latents, self.clip_pictures, lambda x: encode_latents(vae, x)),
            tokens=encode_once(tokens, self.clip_pictures, clip.encode_image),
            captions=self.clip_pictures.captions,
            num_training=self.clip_pictures.num_training,
        )

    @cached_property
    def images(self) -> tuple[Any, nn.Module]:
        """The image UNet and the projection of image tokens."""
        return train_images(self.config, self.clip, self.encoded_images, self.work)

    @cached_property
    def predictor(self) -> SemanticMotionPredictor:
        """The predictor, trained alone."""
        return train_predictor(self.config, self.clip, self.encoded_clips, self.work)

    @cached_property
    def family(self) -> Family:
        """Everything, after the joint training."""
        unet, projection = self.images
        self.predictor.projection.load_state_dict(projection.state_dict())
        motion = train_motion(
            self.config,
            build_joint(unet, self.predictor),
            self.clip,
            self.encoded_images,
            self.encoded_clips,
            self.work,
        )
        return Family(clip=self.clip, vae=self.vae, scheduler=build_scheduler(), motion=motion)

    @cached_property
    def image_prompt(self) -> nn.ModuleDict:
        """The image prompt adapter of the finished family."""
        unet = self.family.motion.unet
        return train_image_prompt(self.config, unet, self.clip, self.encoded_images, self.work)

    @cached_property
    def truth(self) -> TruthEstimator:
        """Train the estimator that scores pictures of the world."""
        return train_truth(self.config, self.vae, self.pictures, self.work)


def _claim(path: Path, config: TrainingConfig) -> None:
    """Bind a work folder to one configuration: what lies there depends on what came before it, and
    pictures, latents and weights of two configurations would be mixed without a word."""
    settings = config.model_dump_json(indent=1, exclude={"device", "num_threads"})

    def write(temporary: Path) -> None:
        temporary.write_text(settings, encoding="utf-8")

    make_once(path, write)
    if path.read_text(encoding="utf-8") != settings:
        raise ValueError(
            f"--work {path.parent}: holds a run of another configuration ({path.name});"
            " continue with that one, or name another folder"
        )


STAGES = ("pictures", "vae", "clip", "images", "predictor", "family", "image_prompt", "truth")


def main() -> None:
    """Read the command line; run the stages in order up to the one asked for."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the run")
    parser.add_argument(
        "--work", type=Path, default=Path("build/training"), help="caches and checkpoints"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/pocket"), help="where the family is written"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="instead of the configuration's; a GPU a process"
    )
    parser.add_argument("--stage", choices=STAGES, default="truth", help="the last stage to run")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    config = TrainingConfig.read(arguments.config)
    if arguments.device is not None:
        config = config.model_copy(update={"device": arguments.device})
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    parallel.join(config.device)
    run = TrainingRun(config, arguments.work)
    wanted = STAGES[: STAGES.index(arguments.stage) + 1]
    for stage in wanted:
        getattr(run, stage)
    if parallel.rank() > 0:
        return
    if "family" in wanted:
        export_family(run.family, arguments.output)
    if "image_prompt" in wanted:
        export_image_prompt(run.image_prompt, arguments.output)
    if "truth" in wanted:
        export_truth(run.truth, arguments.output)


if __name__ == "__main__":
    main()
