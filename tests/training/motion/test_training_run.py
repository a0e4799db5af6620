"""A whole training run on tiny videos and a tiny family: it learns, stops, goes on, is exported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from storyreel.stages.models.config import ModelConfig, PartConfig
from storyreel.stages.motion.config import MotionConfig as RenderingConfig
from storyreel.stages.motion.config import SemanticMotionConfig
from storyreel.stages.motion.stage import build_renderer
from storyreel.training.checkpoints import Trainer
from storyreel.training.config import MotionConfig, PredictorConfig
from storyreel.training.motion.config import ModelsConfig, MotionTrainingConfig, Objective
from storyreel.training.motion.metrics import read_metrics
from storyreel.training.motion.models import Models
from storyreel.training.motion.run import encode_clips, loss_of, split_videos, train
from storyreel.training.motion.work import claim
from storyreel.training.videos.config import VideosConfig
from storyreel.training.videos.index import IndexedVideo, index_videos, list_videos
from tests.stages.motion.test_motion_stage import transition
from tests.stages.tiny import save_tiny_family
from tests.training.videos.filmed import moving, write_video

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of two clips each."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(6):
        write_video(folder / f"{seed}.mp4", moving(2 * NUM_FRAMES, seed=seed), fps=8)
        (folder / f"{seed}.txt").write_text(f"a square goes its way {seed}", encoding="utf-8")
    return folder


def config_of(
    family: Path, *, num_steps: int = 4, objective: Objective = Objective.SEMANTIC
) -> MotionTrainingConfig:
    steps = {
        "num_steps": num_steps, "learning_rate": 2e-3, "checkpoint_every": 2, "warmup_steps": 1,
    }  # fmt: skip
    return MotionTrainingConfig(
        objective=objective,
        validate_every=2,
        models=ModelsConfig(model=ModelConfig(path=str(family))),
        videos=VideosConfig(num_frames=NUM_FRAMES, size=32, videos_per_shard=4),
        predictor=PredictorConfig(
            batch_size=2, hidden_dim=16, num_layers=1, num_heads=2, min_frames=4, **steps
        ),
        motion=MotionConfig(batch_size=1, clip_batch_size=2, **steps),
    )


@pytest.fixture(scope="module")
def index(videos: Path, family: Path) -> list[IndexedVideo]:
    config = config_of(family).videos
    return list(index_videos(list_videos(str(videos), config), config))


def work(tmp_path: Path) -> Path:
    tmp_path.mkdir(exist_ok=True)
    return tmp_path


def test_a_run_that_was_stopped_goes_on_with_the_same_losses(
    family: Path, index: list[IndexedVideo], tmp_path: Path
) -> None:
    config = config_of(family, num_steps=5)
    train(config, index, work(tmp_path / "whole"))
    models = Models(config.models)
    broken = work(tmp_path / "broken")
    clips = encode_clips(config, models, index, broken)
    predictor = models.build_predictor(config)
    loss = loss_of(config, models, clips, predictor, None)
    trainer = Trainer(
        nn.ModuleDict({"predictor": predictor}),
        config.predictor,
        broken / "checkpoint.safetensors",
        seed=config.seed,
    )

    def killed(generator: torch.Generator) -> Tensor:
        if trainer.step == 3:  # after the checkpoint of step 2
            raise KeyboardInterrupt
        return loss(generator)

    with pytest.raises(KeyboardInterrupt):
        trainer.run(killed)
    train(config, index, broken)
    ours, theirs = read_metrics(broken), read_metrics(tmp_path / "whole")
    assert list(ours) == [3, 4, 5]
    for step, values in ours.items():
        assert values["loss"] == pytest.approx(theirs[step]["loss"])


def test_every_step_is_measured_and_held_out_videos_now_and_then(
    family: Path, index: list[IndexedVideo], tmp_path: Path
) -> None:
    trained = train(config_of(family, num_steps=5), index, tmp_path)
    measured = read_metrics(tmp_path)
    assert all("loss" in one for one in measured.values())
    held_out = [step for step, one in measured.items() if "held_out/token_error" in one]
    assert held_out == [2, 4, 5]
    assert measured[5]["held_out/token_error"] == pytest.approx(trained.error.predicted)


def test_through_a_video_model_held_out_clips_are_rendered_and_judged(
    family: Path, index: list[IndexedVideo], tmp_path: Path
) -> None:
    train(config_of(family, num_steps=2, objective=Objective.PAPER), index, tmp_path)
    pictures = sorted((tmp_path / "samples").glob("*.png"))
    assert len(pictures) == 2  # the clips of the video that is held out
    with Image.open(pictures[0]) as strip:
        pixels = np.asarray(strip)
    assert pixels.shape == (2 * 32, NUM_FRAMES * 32, 3)
    true, ours = pixels[:32], pixels[32:]
    assert np.array_equal(true[:, :32], ours[:, :32])  # both begin with the keyframe
    assert not np.array_equal(true, ours)
    means = json.loads((tmp_path / "table2.json").read_text(encoding="utf-8"))
    assert means["true"].keys() == means["rendered"].keys()
    assert -1 <= means["rendered"]["clipsim_frames"] <= 1


@pytest.mark.parametrize("objective", list(Objective))
def test_a_trained_predictor_renders(
    family: Path, index: list[IndexedVideo], tmp_path: Path, objective: Objective
) -> None:
    train(config_of(family, num_steps=3, objective=objective), index, tmp_path)
    export = tmp_path / "export"
    parts = SemanticMotionConfig(
        motion_predictor=PartConfig(path=str(export), subfolder="motion_predictor")
    )
    if objective is Objective.PAPER:
        adapter = PartConfig(path=str(export), subfolder="motion_adapter")
        parts = parts.model_copy(update={"motion_adapter": adapter})
    renderer = build_renderer(
        RenderingConfig(model=ModelConfig(path=str(family)), renderer=parts, num_inference_steps=1)
    )
    (frames,) = renderer([transition()])
    assert frames.isfinite().all()


def test_through_the_video_model_predictor_projection_and_motion_module_learn_and_nothing_else(
    family: Path, index: list[IndexedVideo], tmp_path: Path
) -> None:
    config = config_of(family, num_steps=1, objective=Objective.PAPER)
    longer = config_of(family, num_steps=4, objective=Objective.PAPER)
    states = []
    for name, one in (("short", config), ("long", longer)):
        train(one, index, work(tmp_path / name))
        states.append(load_file(tmp_path / name / "checkpoint.safetensors"))
    kinds = ("modules/predictor.blocks.", "modules/predictor.projection.", "modules/motion.")
    for kind in kinds:
        names = [name for name in states[0] if name.startswith(kind)]
        assert any(not torch.equal(states[0][name], states[1][name]) for name in names), kind
    assert not any("resnets" in name for name in states[0])  # the image model is not kept even


def test_a_run_goes_on_from_a_predictor_and_keeps_its_projection(
    family: Path, index: list[IndexedVideo], tmp_path: Path
) -> None:
    first = config_of(family, num_steps=3, objective=Objective.PAPER)
    train(first, index, work(tmp_path / "first"))
    start = PartConfig(path=str(tmp_path / "first" / "export"), subfolder="motion_predictor")
    models = ModelsConfig(model=ModelConfig(path=str(family)), start=start)
    train(
        config_of(family, num_steps=3).model_copy(update={"models": models}),
        index,
        work(tmp_path / "second"),
    )
    file = "export/motion_predictor/diffusion_pytorch_model.safetensors"
    before, after = (load_file(tmp_path / name / file) for name in ("first", "second"))
    for name, weight in before.items():
        assert torch.equal(after[name], weight) is name.startswith("projection."), name
    other = config_of(family).predictor.model_copy(update={"hidden_dim": 32})
    with pytest.raises(ValueError, match=r"models\.start: its hidden_dim is 16, must be 32"):
        Models(models).build_predictor(
            config_of(family).model_copy(update={"models": models, "predictor": other})
        )


def test_whole_videos_are_held_out(index: list[IndexedVideo]) -> None:
    config = VideosConfig(num_frames=NUM_FRAMES, held_out_share=0.3)
    split = split_videos(index, config, seed=0)
    assert (split.num_training_clips, split.num_held_out_clips) == (8, 4)
    assert {video.url for video in split.videos} == {video.url for video in index}
    assert split == split_videos(index, config, seed=0)
    with pytest.raises(ValueError, match="1 of 1 have clips, needed are two"):
        split_videos(index[:1], config, seed=0)


def test_a_folder_holds_one_run(family: Path, tmp_path: Path) -> None:
    config = config_of(family)
    claim(tmp_path, config, "videos")
    claim(tmp_path, config.model_copy(update={"validate_every": 7}), "videos")
    for other, url in ((config.model_copy(update={"seed": 1}), "videos"), (config, "others")):
        with pytest.raises(ValueError, match="holds a run of another configuration"):
            claim(tmp_path, other, url)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "paper", "motion": None}, "motion: is missing"),
        ({"videos": {"num_frames": 40}}, r"videos\.num_frames: 40, allowed are 4 .* to 32"),
        ({"models": {"model": {"dtype": "bfloat16"}}}, "allowed is float32"),
    ],
)
def test_a_configuration_that_cannot_be_learned_is_refused(
    family: Path, change: dict[str, object], message: str
) -> None:
    values = config_of(family).model_dump() | change
    with pytest.raises(ValueError, match=message):
        MotionTrainingConfig.model_validate(values)


@pytest.mark.parametrize("path", sorted(Path("configs/training/motion").glob("*.toml")), ids=str)
def test_every_bundled_configuration_is_valid(path: Path) -> None:
    config = MotionTrainingConfig.read(path)
    paper = path.stem == "paper"
    assert config.objective == ("paper" if paper else "semantic")
    if paper:  # section 4
        assert (config.predictor.num_layers, config.predictor.hidden_dim) == (8, 1024)
        assert (config.num_steps, config.workers.num_workers) == (100_000, 8)


def test_the_bundled_configuration_goes_on_from_the_bundled_predictor() -> None:
    config = MotionTrainingConfig.read(Path("configs/training/motion/pocket.toml"))
    predictor = Models(config.models).build_predictor(config)
    assert predictor.config["max_frames"] == config.max_frames
