"""Training in several equal processes, as `torchrun` or Ray Train start them; alone it does little.

Every process draws its own batches and all take the same step with the mean of their gradients.
On few CPU cores this beats more threads, which wait for each other inside every layer.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(days=1)
"""How long the others wait while the first process draws or encodes the pictures."""


def join(device: str) -> None:
    """Meet the other processes, if `torchrun` started any; on GPUs each takes its own."""
    if not dist.is_torchelastic_launched():
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)


def rank() -> int:
    """The index of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Return when every process is here."""
    if dist.is_initialized():
        dist.barrier()


def make_once(path: Path, make: Callable[[Path], None]) -> None:
    """Let the first process make `path` under another name and publish it; the others wait."""
    if rank() == 0 and not path.exists():
        temporary = path.with_name(f"partial-{path.name}")
        make(temporary)
        temporary.replace(path)
    wait()


def mean(value: Tensor) -> Tensor:
    """The mean of the processes' values."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value / world_size()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; one that is missing counts as zero."""
    if not dist.is_initialized():
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = torch.split(flat, [grad.numel() for grad in grads])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
