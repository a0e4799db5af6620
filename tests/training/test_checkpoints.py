"""The optimisation loop: resuming, averaging, the rate."""

from pathlib import Path

import pytest
import torch
from torch import nn

from storyreel.training.checkpoints import Trainer, learning_rate_factor
from storyreel.training.config import StageConfig


def config_of(num_steps: int) -> StageConfig:
    return StageConfig(
        num_steps=num_steps, batch_size=4, learning_rate=0.01, warmup_steps=2, decay_share=1.0,
        checkpoint_every=3,
    )  # fmt: skip


def trainer_of(path: Path, num_steps: int) -> Trainer:
    torch.manual_seed(0)
    modules = nn.ModuleDict({"line": nn.Linear(3, 1)})
    return Trainer(modules, config_of(num_steps), path, seed=7)


def fit(trainer: Trainer, *, fail_at: int | None = None) -> nn.ModuleDict:
    def batch_loss(generator: torch.Generator) -> torch.Tensor:
        if trainer.step == fail_at:
            raise KeyboardInterrupt
        batch = torch.randn(4, 3, generator=generator)
        return (trainer.modules["line"](batch).float() - batch.sum(1, keepdim=True)).square().mean()

    return trainer.run(batch_loss)


def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = fit(trainer_of(tmp_path / "a.safetensors", 8))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer_of(tmp_path / "b.safetensors", 8), fail_at=5)
    continued = trainer_of(tmp_path / "b.safetensors", 8)
    assert continued.step == 3
    for ours, theirs in zip(fit(continued).parameters(), undisturbed.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_training_lowers_the_error_of_the_averaged_weights(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a.safetensors", 300)
    line = fit(trainer)["line"]
    assert isinstance(line, nn.Linear)
    assert (line.weight - 1).abs().max() < 0.3


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    config = config_of(100).model_copy(update={"warmup_steps": 10, "decay_share": 0.2})
    factors = [learning_rate_factor(step, config) for step in (0, 9, 50, 80, 90, 100)]
    assert factors == pytest.approx([0.1, 1, 1, 1, 0.5, 0])


def test_passes_before_a_step_are_as_many_processes_with_one_pass_each(tmp_path: Path) -> None:
    def batch_loss(generator: torch.Generator) -> torch.Tensor:
        batch = torch.randn(4, 3, generator=generator)
        return (trainer.modules["line"](batch).float() - batch.sum(1, keepdim=True)).square().mean()

    trainer = trainer_of(tmp_path / "a.safetensors", 1)
    trainer.config = trainer.config.model_copy(update={"accumulation": 2})
    line = trainer.modules["line"]
    assert isinstance(line, nn.Linear)
    start, shares = line.weight.detach().clone(), []
    for share in range(2):  # the gradients of two processes at the same step
        generator = torch.Generator().manual_seed(7 * 1_000_003 * 1_009 + share)
        with torch.autocast("cpu", torch.bfloat16):
            shares.append(torch.autograd.grad(batch_loss(generator), line.weight)[0])
    trainer.optimizer = torch.optim.SGD(trainer.parameters, lr=1.0)  # type: ignore[assignment]
    rate = config_of(1).learning_rate * learning_rate_factor(0, trainer.config)
    trainer.run(batch_loss)
    mean = torch.stack(shares).mean(0)
    norm = ((start - line.weight.detach()) / rate) / mean
    assert torch.allclose(norm, norm[0, 0].expand_as(norm), atol=1e-3)  # up to clipping
