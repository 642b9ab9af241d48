"""DCFAE's similarity loss: dense, symbolic (KeOps) and in float64 by row blocks; all written apart from the operator."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

_BLOCK_PAIRS, _BLOCK_ROWS = 2**18, 32  # of the float64 pass, see wasserstein_similarity.py


def inputs(rows: int, width: int) -> Inputs:
    """Codes and embeddings of one width; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    z, e = torch.randn(rows, width, generator=g) * 0.5, torch.randn(rows, width, generator=g)
    return z.requires_grad_(), e.requires_grad_()


def _dof(z: Tensor) -> float:
    """The degrees of freedom of the code's similarity: DCFAE's twice the width."""
    return 2.0 * z.shape[1]


def _similarity(u: Tensor, dof: float) -> Tensor:
    square = (u * u).sum(1)
    d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
    return (1 + d / dof) ** (-(dof + 1) / 2)


def eager(z: Tensor, e: Tensor) -> Tensor:
    """The loss as its formula reads, with N x N matrices."""
    p, q = _similarity(z, _dof(z)), _similarity(e, 1.0)
    return q.sum().log() - (p * q.log()).sum() / p.sum()


def keops(z: Tensor, e: Tensor) -> Tensor:
    """Three symbolic reductions."""
    from pykeops.torch import LazyTensor

    dof = _dof(z)
    x = LazyTensor(z[:, None]).sqdist(LazyTensor(z[None])) / dof
    y = LazyTensor(e[:, None]).sqdist(LazyTensor(e[None]))
    p, log_q = (-(dof + 1) / 2 * (1 + x).log()).exp(), -(1 + y).log()
    return (1 / (1 + y)).sum(1).sum().log() - (p * log_q).sum(1).sum() / p.sum(1).sum()


def exact(tensors: Inputs) -> tuple[float, Inputs]:
    """Value and gradients in float64: the three sums over blocks of rows, then the loss's derivative by them."""
    z, e = (x.detach().double() for x in tensors)
    z, e = z - z.mean(0), e - e.mean(0)
    rows = len(z)
    step = max(_BLOCK_ROWS, _BLOCK_PAIRS // rows)
    blocks = [slice(start, start + step) for start in range(0, rows, step)]
    with torch.no_grad():
        p, q, cross = (sum(parts) for parts in zip(*(_sums(z, e, i) for i in blocks), strict=True))
    leaves = z.requires_grad_(), e.requires_grad_()
    for i in blocks:
        block_p, block_q, block_cross = _sums(z, e, i)
        (block_q / q - block_cross / p + block_p * cross / p**2).backward()
    return (q.log() - cross / p).item(), tuple(x.grad for x in leaves)


def _sums(z: Tensor, e: Tensor, i: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of p~, q~ and p~ log q~ over the rows i and all columns."""

    def log_similarity(u: Tensor, dof: float) -> Tensor:
        d = (u[i].square().sum(1, keepdim=True) + u.square().sum(1) - 2 * u[i] @ u.T).clamp_min(0)
        return -(dof + 1) / 2 * torch.log1p(d / dof)

    p, log_q = log_similarity(z, _dof(z)).exp(), log_similarity(e, 1.0)
    return p.sum(), log_q.exp().sum(), (p * log_q).sum()


def multiply_adds(rows: int, width: int) -> dict[str, int]:
    """Multiply-adds that cannot be saved, counting each unordered pair i < j once.

    Forward: both distances. Backward: both distances again, as nothing N x N is kept, and S_ij u_j into row i, S_ij u_i into
    row j for both. Logarithms, exponentials and the O(1) arithmetic of a pair are not counted.
    """
    pairs = rows * (rows - 1) // 2
    return {"forward": pairs * 2 * width, "backward": pairs * 6 * width}


def _case(width: int, variant: str = "") -> Case:
    return Case(
        operator="t_similarity",
        shape=f"D={width}, E={width}, float32",
        names=("z", "e"),
        inputs=partial(inputs, width=width),
        call=partial(ops.t_similarity, dof_z=2.0 * width),
        eager=eager,
        keops=keops,
        exact=exact,
        multiply_adds=partial(multiply_adds, width=width),
        dense_floats={"reference": 10, "eager": 10, "compile": 6},
        tolerance=1e-3,
        rows=(256, 1024, 4096, 8192),
        variant=variant,
    )


CASES = (_case(50), _case(10, "-d10"))
