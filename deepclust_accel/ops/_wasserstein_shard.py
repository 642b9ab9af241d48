"""wasserstein_similarity of rows that several processes hold: each has its own rows and sees those of all.

A process computes the sums of its own rows over all columns, the sums are gathered (1 + K numbers a row), and then it has
what the complete gradient of its own rows needs. Nothing is exchanged in the backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._define import define
from ._validate import Gather, gathered

SMALLEST_CLUSTER = 1e-8


def _similarities(mu: Tensor, sigma: Tensor, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Features (N, 2Z), centred, and q (count, N) of the own rows to all."""
    u = torch.cat([mu, sigma], 1)
    u = u - u.mean(0)
    d = (u[start : start + count, None] - u).square().sum(2)
    return u, 1 / (1 + d)


def _reference_sums(mu: Tensor, sigma: Tensor, gamma: Tensor, start: int, count: int) -> Tensor:
    _, q = _similarities(mu, sigma, start, count)
    return torch.cat([q.exp().sum(1, keepdim=True), q @ gamma], 1).double()


def _reference_pull(
    mu: Tensor, sigma: Tensor, gamma: Tensor, share: Tensor, size: Tensor, start: int, count: int
) -> Tensor:
    u, q = _similarities(mu, sigma, start, count)
    own, share = slice(start, start + count), share.to(q)
    w = (gamma[own] / size.to(q)) @ gamma.T
    s = q.square() * (2 * w - q.exp() * (share[own, None] + share))
    return 2 * (s.sum(1, keepdim=True) * u[own] - s @ u)


_ROWS = "Tensor mu, Tensor sigma, Tensor gamma"
_sums = define(
    "wasserstein_similarity_own_sums",
    f"({_ROWS}, int start, int count) -> Tensor",
    reference=_reference_sums,
    fake=lambda mu, sigma, gamma, start, count: mu.new_empty(count, 1 + gamma.shape[1], dtype=torch.float64),
    part_of="wasserstein_similarity",
)
_pull = define(
    "wasserstein_similarity_own_pull",
    f"({_ROWS}, Tensor share, Tensor size, int start, int count) -> Tensor",
    reference=_reference_pull,
    fake=lambda mu, sigma, gamma, share, size, start, count: mu.new_empty(count, 2 * mu.shape[1]),
    part_of="wasserstein_similarity",
)


class _Shard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mu: Tensor, sigma: Tensor, gamma: Tensor, gather: Gather, rows: bool) -> Tensor:
        widths = [mu.shape[1], mu.shape[1], gamma.shape[1]]
        everything, start = gathered("wasserstein_similarity", gather, torch.cat([mu, sigma, gamma], 1))
        all_rows, own = everything.split(widths, 1), slice(start, start + len(mu))
        sums, _ = gathered("wasserstein_similarity", gather, _sums(*all_rows, start, len(mu)))
        g, log_z, r = all_rows[2].double(), sums[:, 0].log(), sums[:, 1:]
        total, same, entropy = g.sum(0), (g * r).sum(0), g.T @ log_z
        size = total.clamp_min(SMALLEST_CLUSTER)
        slope = torch.where(total < SMALLEST_CLUSTER, entropy, same / size)
        slope = (log_z[own, None] * total - 2 * r[own] + slope) / size
        ctx.start, ctx.scale = start, 1 / len(g) if rows else 1 / len(g) ** 2
        ctx.save_for_backward(*all_rows, (g @ (total / size)) / sums[:, 0], size, slope.to(gamma.dtype))
        return (ctx.scale * ((total * entropy - same) / size).sum()).to(mu.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *rows, share, size, slope = ctx.saved_tensors
        factor = grad * ctx.scale
        g_mu, g_sigma = (_pull(*rows, share, size, ctx.start, len(slope)) * factor).chunk(2, 1)
        return g_mu, g_sigma, slope * factor, None, None


def of_own_rows(mu: Tensor, sigma: Tensor, gamma: Tensor, gather: Gather, rows: bool) -> Tensor:
    """The loss of the rows of all processes, with the gradient of this one's; see `wasserstein_similarity`."""
    return _Shard.apply(mu, sigma, gamma, gather, rows)
