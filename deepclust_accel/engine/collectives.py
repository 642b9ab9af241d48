"""What ranks exchange: rows of a batch with gradients, and sums. Without a process group both return their argument."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_rows", "min_ranks", "sum_ranks", "world_size"]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.contiguous().clone()
        dist.all_reduce(total)  # every rank used these rows as columns
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """(n, …) on each of W ranks → (W n, …) in rank order, differentiable; n must be the same on all ranks."""
    return _GatherRows.apply(rows.contiguous()) if _active() else rows


def sum_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks; no gradient."""
    if not _active():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def min_ranks(values: Tensor) -> Tensor:
    """Smallest value over all ranks, elementwise; no gradient."""
    if not _active():
        return values
    least = values.detach().clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return least


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if _active() else 1


def _active() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
