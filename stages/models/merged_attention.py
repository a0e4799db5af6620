"""Attention to two sets of keys, one of its own for each group of queries and one for all.

The two softmaxes are merged by their log-sum-exp, so that the shared keys are never copied for each
group. Legend::

    B  batch       G  guidance branches       M  groups of queries (panels)
    L  queries     R  own keys of a group     T  shared keys     H  heads     D  channels of a head
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of the same shape."""


def attend_jointly(query: Tensor, own: KeyValue, shared: KeyValue) -> Tensor:
    """Each group of queries attends to its own keys and to the shared ones in one softmax.

    Args:
        query: (G, M, L, H, D).
        own: (G, M, R, H, D) each; R may be 0.
        shared: (G, T, H, D) each; T may be 0, if R is not.

    Returns:
        (G, M, L, H, D).
    """
    groups = query.flatten(0, 1)
    if shared[0].shape[1] == 0:
        return _attend(groups, _flat(own)).view(query.shape)
    if own[0].shape[2] == 0:
        return _attend(query.flatten(1, 2), shared).view(query.shape)
    kernel = _kernel(query, *own, *shared)
    if kernel is None:
        return _attend(groups, _with_copies(own, shared)).view(query.shape)
    of_own, own_sum = _attend_and_sum(kernel, groups, _flat(own))
    of_shared, shared_sum = _attend_and_sum(kernel, query.flatten(1, 2), shared)
    # exp(shared_sum) / (exp(own_sum) + exp(shared_sum)), the share of the shared keys.
    weight = torch.sigmoid(shared_sum.view(own_sum.shape) - own_sum).to(query.dtype)
    return of_own.lerp(of_shared.view(of_own.shape), weight).view(query.shape)


def _flat(own: KeyValue) -> KeyValue:
    return own[0].flatten(0, 1), own[1].flatten(0, 1)


def _with_copies(own: KeyValue, shared: KeyValue) -> KeyValue:
    """Own and shared keys and values side by side, (G * M, R + T, H, D) each."""

    def joined(private: Tensor, common: Tensor) -> Tensor:
        copies = common[:, None].expand(-1, private.shape[1], -1, -1, -1)
        return torch.cat([private, copies], dim=2).flatten(0, 1)

    return joined(own[0], shared[0]), joined(own[1], shared[1])


def _attend(query: Tensor, keys: KeyValue) -> Tensor:
    """(B, L, H, D), (B, T, H, D) -> (B, L, H, D), contiguous."""
    query, key, value = (x.transpose(1, 2) for x in (query, *keys))
    attended: Tensor = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).contiguous()


Kernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(B, H, L, D), (B, H, T, D) twice -> (B, H, L, D) and the log-sum-exp of the scores, (B, H, L)."""


def _attend_and_sum(kernel: Kernel, query: Tensor, keys: KeyValue) -> tuple[Tensor, Tensor]:
    """(B, L, H, D), (B, T, H, D) -> (B, L, H, D) and the log-sum-exp (B, L, H, 1)."""
    attended, log_sum = kernel(*(x.transpose(1, 2) for x in (query, *keys)))
    return attended.transpose(1, 2).contiguous(), log_sum.transpose(1, 2).contiguous()[..., None]


def _kernel(query: Tensor, *keys: Tensor) -> Kernel | None:
    """The kernel that gives the log-sum-exp too; None where there is none.

    None of them carries a gradient through the log-sum-exp, so that training has none.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, *keys)):
        return None
    if query.device.type == "cpu":
        return _on_cpu
    # Other widths are padded by `scaled_dot_product_attention`, not by the kernels themselves.
    if query.device.type != "cuda" or query.shape[-1] % 8 or query.shape[-1] > 256:
        return None
    in_half = query.dtype in (torch.float16, torch.bfloat16)
    flash = in_half and torch.cuda.get_device_capability(query.device) >= (8, 0)
    return _flash if flash else _memory_efficient


def _on_cpu(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    attended, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value
    )
    return attended, log_sum


def _flash(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    attended, log_sum, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)
    return attended, log_sum


def _memory_efficient(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    attended, log_sum, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, compute_log_sumexp=True
    )
    # The kernel pads the sums to a multiple of 32 queries.
    return attended, log_sum[..., : query.shape[-2]]
