"""What ranks exchange: rows of a batch with gradients, and sums. Without a process group both return their argument."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["average_gradients", "barrier", "gather_rows", "min_ranks", "rank", "sum_ranks", "world_size"]


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


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace gradients by their mean over ranks; a missing one counts as zero, and stays missing if it is so everywhere.

    One message a dtype and device, after the backward. Unlike DistributedDataParallel this asks nothing of how a step
    calls its networks (slices, several times, not at all on one rank), and overlaps nothing with the backward.
    """
    if not _active():
        return
    kinds: dict[tuple, list[Tensor]] = {}
    for p in parameters:
        kinds.setdefault((p.dtype, p.device), []).append(p)
    for (dtype, device), group in kinds.items():
        own = [p.grad is not None for p in group]
        flat = torch.cat(
            [
                torch.tensor(own, dtype=dtype, device=device),
                *(torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in group),
            ]
        )
        dist.all_reduce(flat)
        there, *parts = flat.split([len(group), *(p.numel() for p in group)])
        anywhere = own if all(own) else there.tolist()  # only then is it worth waiting for a device
        for p, part, needed in zip(group, parts, anywhere, strict=True):
            p.grad = part.view_as(p) / dist.get_world_size() if needed else None


def barrier() -> None:
    """Wait until every rank is here."""
    if _active():
        dist.barrier()


def min_ranks(values: Tensor) -> Tensor:
    """Smallest value over all ranks, elementwise; no gradient."""
    if not _active():
        return values
    least = values.detach().clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return least


def rank() -> int:
    """Number of this process among the ranks."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if _active() else 1


def _active() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
