"""One worker of a training run: encode its share of the videos, then learn with the others.

Everything that a run makes lies in its work folder, which all workers see: the index, the shards,
the checkpoint, what was measured. A run that is started again goes on from there.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from storyreel.stages.models.unet_attention import install_attention
from storyreel.stages.motion.predictor import SemanticMotionPredictor
from storyreel.training import parallel
from storyreel.training.checkpoints import BatchLoss, Trainer
from storyreel.training.motion.config import MotionTrainingConfig, Objective
from storyreel.training.motion.metrics import Metrics
from storyreel.training.motion.models import Models, VideoModel, needed
from storyreel.training.motion.sample import Sampler, side_by_side
from storyreel.training.parts.motion import (
    ClipLoss,
    EncodedClips,
    PredictorError,
    PredictorLoss,
    held_out_error,
)
from storyreel.training.videos.config import VideosConfig
from storyreel.training.videos.encoding import (
    ShardedRows,
    encode_shards,
    read_captions,
    shards_of,
)
from storyreel.training.videos.index import IndexedVideo
from storyreel.training.videos.reading import Pixels

logger = logging.getLogger(__name__)

NUM_SAMPLES = 8
"""Held-out clips that are rendered at the end."""
SAMPLES = "samples"
TABLE2 = "table2.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The videos with clips, those that are held out last."""

    videos: tuple[IndexedVideo, ...]
    num_training_clips: int
    num_held_out_clips: int


def split_videos(index: Sequence[IndexedVideo], config: VideosConfig, seed: int) -> Split:
    """Hold out whole videos, chosen at random: two clips of one are too alike to judge by.

    Raises:
        ValueError: fewer than two videos have clips.
    """
    usable = [video for video in index if video.starts]
    if len(usable) < 2:
        raise ValueError(
            f"videos: {len(usable)} of {len(index)} have clips, needed are two: one to learn from"
            " and one to judge by"
        )
    order = np.random.default_rng(seed).permutation(len(usable))
    shuffled = [usable[place] for place in order]
    num_held_out = max(1, round(config.held_out_share * len(usable)))
    counts = [len(video.starts) for video in shuffled]
    return Split(
        videos=tuple(shuffled),
        num_training_clips=sum(counts[:-num_held_out]),
        num_held_out_clips=sum(counts[-num_held_out:]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run has come to."""

    num_steps: int
    error: PredictorError


def train(config: MotionTrainingConfig, index: Sequence[IndexedVideo], work: Path) -> Trained:
    """Train or go on training; the first worker writes the trained parts to `work/export`.

    Raises:
        ValueError: the videos are too few, or the models do not fit each other.
    """
    models = Models(config.models)
    clips = encode_clips(config, models, index, work)
    predictor = models.build_predictor(config)
    video = None
    if config.objective is Objective.PAPER:
        video = models.build_video_model(config.seed)
    modules = nn.ModuleDict({"predictor": predictor})
    if video is not None:
        modules["motion"] = video.learning()
    loss = loss_of(config, models, clips, predictor, video)
    trained = Trained(num_steps=config.num_steps, error=learn(config, modules, loss, clips, work))
    if parallel.rank() == 0:
        averaged = _predictor(modules)
        _export(averaged, video, work / "export")
        if video is not None:  # which has the trained motion module now
            _sample(Sampler(models, video, averaged), clips, work)
        (work / "trained.json").write_text(json.dumps(asdict(trained)), encoding="utf-8")
    parallel.wait()
    return trained


def learn(
    config: MotionTrainingConfig,
    modules: nn.ModuleDict,
    loss: BatchLoss,
    clips: EncodedClips,
    work: Path,
) -> PredictorError:
    """Take the steps that are left, give the modules their averaged weights, and measure them."""
    path = work / "checkpoint.safetensors"
    trainer = Trainer(modules, config.steps, path, seed=config.seed)
    with Metrics(work) as metrics:

        def observe(step: int, value: float) -> None:
            metrics.add(step, {"loss": value})
            if step % config.validate_every == 0:
                error = held_out_error(_predictor(trainer.average), clips)
                metrics.add(step, _as_metrics(error))

        modules.load_state_dict(trainer.run(loss, observe).state_dict())
        error = held_out_error(_predictor(modules.eval()), clips)
        metrics.add(trainer.step, _as_metrics(error))
    return error


def _predictor(modules: nn.ModuleDict) -> SemanticMotionPredictor:
    return cast(SemanticMotionPredictor, modules["predictor"])


def encode_clips(
    config: MotionTrainingConfig, models: Models, index: Sequence[IndexedVideo], work: Path
) -> EncodedClips:
    """All clips as the frozen models see them; encoded first if they are not."""
    split = split_videos(index, config.videos, config.seed)
    kinds = needed(config.objective)
    encoders = {"tokens": models.encode_tokens, "latents": models.encode_latents}

    def encode(frames: Pixels) -> Mapping[str, Tensor]:
        return {kind: encoders[kind](frames) for kind in kinds}

    shards = shards_of(split.videos, config.videos)
    paths = encode_shards(shards, work / "clips", config.videos, encode)
    return EncodedClips(
        tokens=ShardedRows(paths, "tokens"),
        latents=ShardedRows(paths, kinds[-1]),
        captions=read_captions(paths),
        num_training=split.num_training_clips,
    )


def loss_of(
    config: MotionTrainingConfig,
    models: Models,
    clips: EncodedClips,
    predictor: SemanticMotionPredictor,
    video: VideoModel | None,
) -> BatchLoss:
    """The error that the run lowers."""
    if video is None:
        predictor.projection.requires_grad_(requires_grad=False)  # nothing reads it
        return PredictorLoss(predictor=predictor, clips=clips, config=config.predictor)
    assert config.motion is not None
    return ClipLoss(
        motion_unet=video.unet,
        predictor=predictor,
        clip=models,
        clips=clips,
        attention=install_attention(video.unet),
        config=config.motion,
        scheduler=video.scheduler,
    )


def _as_metrics(error: PredictorError) -> dict[str, float]:
    return {
        "held_out/token_error": error.predicted,
        "held_out/of_interpolation": error.predicted / max(error.interpolated, 1e-12),
    }


def _export(predictor: SemanticMotionPredictor, video: VideoModel | None, folder: Path) -> None:
    parts: dict[str, Any] = {"motion_predictor": predictor}
    if video is not None:
        parts["motion_adapter"] = video.trained_adapter()
    for name, part in parts.items():
        part.save_pretrained(folder / name, safe_serialization=True)
    logger.info("wrote %s to %s", ", ".join(parts), folder)


def _sample(sampler: Sampler, clips: EncodedClips, work: Path) -> None:
    """Render some held-out clips: a picture of each, and the means of Table 2 of them all."""
    rows = range(clips.num_training, clips.tokens.shape[0])[:NUM_SAMPLES]
    (work / SAMPLES).mkdir(exist_ok=True)
    measured: list[tuple[str, Mapping[str, float]]] = []
    for row in rows:
        true, ours = sampler(clips, row)
        Image.fromarray(side_by_side(true, ours)).save(work / SAMPLES / f"{row:06d}.png")
        measured += [("true", sampler.table2(true)), ("rendered", sampler.table2(ours))]
    means = {
        kind: {
            name: float(np.mean([values[name] for one, values in measured if one == kind]))
            for name in measured[0][1]
        }
        for kind in ("true", "rendered")
    }
    (work / TABLE2).write_text(json.dumps(means), encoding="utf-8")


def use_threads(num_threads: int) -> None:
    """Threads of one worker; more of them on one machine only wait for each other."""
    torch.set_num_threads(num_threads)
