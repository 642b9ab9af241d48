"""DVAE's similarity loss: dense, symbolic (KeOps) and in float64 by row blocks; all written apart from the operator."""

from __future__ import annotations

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

LATENT, CLUSTERS = 10, 10

# Blocks of the float64 pass: 2^18 pairs stay in the cache; below 32 rows the O(N) work of a block would dominate.
_BLOCK_PAIRS, _BLOCK_ROWS = 2**18, 32


def inputs(rows: int) -> Inputs:
    """Means, deviations and soft assignments of DVAE's usual magnitudes; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    mu = torch.randn(rows, LATENT, generator=g)
    sigma = torch.rand(rows, LATENT, generator=g) + 0.1
    gamma = torch.randn(rows, CLUSTERS, generator=g).softmax(1)
    return mu.requires_grad_(), sigma.requires_grad_(), gamma.requires_grad_()


def eager(mu: Tensor, sigma: Tensor, gamma: Tensor) -> Tensor:
    """The loss as its formula reads, with N x N matrices and no care for special values."""
    u = torch.cat([mu, sigma], 1)
    square = (u * u).sum(1)
    d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
    q = 1 / (1 + d)
    w = (gamma / gamma.sum(0)) @ gamma.T
    log_p = q - torch.logsumexp(q, 1, keepdim=True)
    return -(w * log_p).sum() / len(u) ** 2


def keops(mu: Tensor, sigma: Tensor, gamma: Tensor) -> Tensor:
    """Two symbolic reductions, the fastest of three formulations tried: no shift, as q <= 1, and w factored."""
    from pykeops.torch import LazyTensor

    u = torch.cat([mu, sigma], 1)
    q = 1 / (1 + LazyTensor(u[:, None]).sqdist(LazyTensor(u[None])))
    log_z = q.exp().sum(1).log()
    near = (gamma / gamma.sum(0) * (q @ gamma)).sum()
    return ((gamma.sum(1, keepdim=True) * log_z).sum() - near) / len(u) ** 2


def exact(tensors: Inputs) -> tuple[float, Inputs]:
    """Value and gradients in float64: the definition over blocks of rows, differentiated by autograd."""
    mu, sigma, gamma = leaves = tuple(x.detach().double().requires_grad_() for x in tensors)
    u = torch.cat([mu, sigma], 1)
    u = u - u.mean(0).detach()
    share = gamma / gamma.sum(0).clamp_min(1e-8)
    # The blocks see copies cut off from the graph above, whose derivative is then taken once instead of per block.
    x_j, gamma_j = u.detach().requires_grad_(), gamma.detach().requires_grad_()
    g_u, g_share = torch.empty_like(u), torch.empty_like(share)
    rows, value = len(u), 0.0
    step = max(_BLOCK_ROWS, _BLOCK_PAIRS // rows)
    for start in range(0, rows, step):
        i = slice(start, start + step)
        x_i, share_i = u[i].detach().requires_grad_(), share[i].detach().requires_grad_()
        part = _block(x_i, share_i, x_j, gamma_j) / rows**2
        part.backward()
        g_u[i], g_share[i] = x_i.grad, share_i.grad
        value += part.item()
    torch.autograd.backward((u, share, gamma), (g_u + x_j.grad, g_share, gamma_j.grad))
    return value, tuple(x.grad for x in leaves)


def _block(x_i: Tensor, share_i: Tensor, x_j: Tensor, gamma_j: Tensor) -> Tensor:
    """-sum_ij w_ij log softmax_j(q_ij) over the rows i of a block and all j."""
    square_i, square_j = x_i.square().sum(1, keepdim=True), x_j.square().sum(1)
    q = 1 / (1 + (square_i + square_j - 2 * x_i @ x_j.T).clamp_min(0))
    return ((share_i @ gamma_j.T) * (q.logsumexp(1, keepdim=True) - q)).sum()


def multiply_adds(rows: int, latent: int = LATENT, clusters: int = CLUSTERS) -> dict[str, int]:
    """Multiply-adds that cannot be saved, counting each unordered pair i < j once; the diagonal needs none.

    Forward: the distance (2Z) and q_ij gamma_j into row i, q_ij gamma_i into row j (2K).
    Backward: the distance again, as nothing N x N is kept (2Z), the weight w_ij (K), and s_ij u_j into row i,
    s_ij u_i into row j (2 * 2Z). Divisions, exponentials and the O(1) arithmetic of a pair are not counted.
    """
    pairs = rows * (rows - 1) // 2
    return {"forward": pairs * (2 * latent + 2 * clusters), "backward": pairs * (6 * latent + clusters)}


CASE = Case(
    operator="wasserstein_similarity",
    shape=f"Z={LATENT}, K={CLUSTERS}, float32",
    names=("mu", "sigma", "gamma"),
    inputs=inputs,
    call=ops.wasserstein_similarity,
    eager=eager,
    keops=keops,
    exact=exact,
    multiply_adds=multiply_adds,
    dense_floats={"reference": 8, "eager": 8, "compile": 4},
    tolerance=1e-4,
)
