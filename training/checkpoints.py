"""The optimisation loop of every stage and its checkpoint file.

A step's batch, noise and dropout come from generators seeded with (seed, step, share), so that a
run that was stopped and continued sees what an undisturbed run sees, and fewer processes that
accumulate see what more processes see. Checkpoints are safetensors.
"""

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from storyreel.training import parallel
from storyreel.training.config import StageConfig

logger = logging.getLogger(__name__)

LOG_EVERY = 20

BatchLoss = Callable[[torch.Generator], Tensor]
"""Draws a batch from the CPU generator and returns its scalar loss."""

Observe = Callable[[int, float], None]
"""Told the number of steps taken and the loss of the last, after every step."""


def learning_rate_factor(step: int, config: StageConfig) -> float:
    """Warm up, stay, fall linearly to zero in the last `decay_share` of the steps."""
    decay_steps = config.decay_share * config.num_steps
    return min(1.0, (step + 1) / config.warmup_steps, (config.num_steps - step) / decay_steps)


class Trainer:
    """Trains modules for a stage's number of steps and keeps an average of their weights.

    Args:
        modules: everything that learns; parameters shared between modules are trained once.
        config: steps, rate, average.
        path: the checkpoint file, written every `checkpoint_every` steps.
        seed: of the whole run.
    """

    def __init__(
        self, modules: nn.ModuleDict, config: StageConfig, path: Path, *, seed: int
    ) -> None:
        self.modules = modules
        self.config = config
        self.path = path
        self.seed = seed
        self.device = next(modules.parameters()).device
        self.average = copy.deepcopy(modules).requires_grad_(requires_grad=False)
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.step = 0
        if path.exists():
            self._load()

    def run(self, batch_loss: BatchLoss, observe: Observe | None = None) -> nn.ModuleDict:
        """Take the steps that are left; return the averaged modules."""
        self.modules.train()
        started, first, recent = time.perf_counter(), self.step, torch.zeros(())
        while self.step < self.config.num_steps:
            loss = self._take_step(batch_loss)
            recent = loss if self.step == first else torch.lerp(recent, loss, 0.05)
            self.step += 1
            if self.step % LOG_EVERY == 0:
                pace = (time.perf_counter() - started) / (self.step - first)
                logger.info(
                    "%s step %d loss %.4f, %.2f s a step",
                    self.path.stem, self.step, float(recent), pace,
                )  # fmt: skip
            if observe is not None:
                observe(self.step, float(loss))
            done = self.step == self.config.num_steps
            if done or self.step % self.config.checkpoint_every == 0:
                self._save()
        return self.average.eval()

    def _take_step(self, batch_loss: BatchLoss) -> Tensor:
        rate = self.config.learning_rate * learning_rate_factor(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = torch.zeros((), device=self.device)
        for index in range(self.config.accumulation):
            share = parallel.rank() * self.config.accumulation + index
            place = (self.seed * 1_000_003 + self.step) * 1_009 + share
            generator = torch.Generator().manual_seed(place)
            # The weights stay in float32; only what is computed with them is in bfloat16.
            with torch.autocast(self.device.type, torch.bfloat16):
                part = batch_loss(generator) / self.config.accumulation
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        parallel.average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._update_average()
        return parallel.mean(loss)

    def _update_average(self) -> None:
        # A short run must not be an average over its random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = [average.detach() for average in self.average.parameters()]
        values: list[Tensor] = [value.detach() for value in self.modules.parameters()]
        torch._foreach_lerp_(averages, values, 1 - decay)

    def _save(self) -> None:
        if parallel.rank() > 0:
            return
        temporary = self.path.with_name(f"partial-{self.path.name}")
        self._write(temporary)
        temporary.replace(self.path)

    def _write(self, path: Path) -> None:
        tensors = {f"modules/{k}": v for k, v in self.modules.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{k}": v for k, v in state.items()}
        # Clones, because safetensors refuses tensors that share memory (tied weights).
        clones = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        save_file(clones, path, metadata={"step": str(self.step)})

    def _load(self) -> None:
        groups: dict[str, dict[str, Tensor]] = {"modules": {}, "average": {}, "optimizer": {}}
        with safe_open(self.path, framework="pt") as file:
            self.step = int(file.metadata()["step"])
            for key in file.keys():  # noqa: SIM118 - not a dict
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
        self.modules.load_state_dict(groups["modules"])
        self.average.load_state_dict(groups["average"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in groups["optimizer"].items():
            index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": param_groups})
        logger.info("%s continues from step %d", self.path.stem, self.step)
