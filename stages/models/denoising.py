"""Shared by all denoising loops: noise, guidance, and kernels that give the same bytes."""

import os

import torch
from torch import Tensor


def use_deterministic_kernels() -> None:
    """Make this process render the same bytes every time on the same kind of hardware."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def draw_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal noise from a CPU generator, so that every device renders alike."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guide(branches: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: (G, ...) of [negative, positive], or of positive alone -> (...)."""
    if len(branches) == 1:
        return branches[0]
    return branches[0] + guidance_scale * (branches[1] - branches[0])
