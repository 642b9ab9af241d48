"""DVAE's similarity loss: rows that share a cluster should be near, measured by a softmax over all pairs of a batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ._define import define
from ._validate import Gather, one_of, pair_inputs, wrong
from ._wasserstein_shard import SMALLEST_CLUSTER, of_own_rows


def _pairs(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 2Z), centred because the loss does not move with them, and q (N, N)."""
    u = torch.cat([mu, sigma], 1)
    u = u - u.mean(0).detach()
    square = u.square().sum(1)
    d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
    d = d.masked_fill(torch.eye(len(d), dtype=torch.bool, device=d.device), 0)
    return u, 1 / (1 + d)


def _scale(n: int, rows: bool) -> float:
    return 1 / n if rows else 1 / n**2


def _state(mu: Tensor, gamma: Tensor) -> Tensor:
    """Room for what a native forward keeps for its backward, csrc/wasserstein_similarity/cpu.cpp says what."""
    rows = (mu.shape[0] + 63) // 64 * 64
    return mu.new_empty(rows * (2 * mu.shape[1] + 2 * gamma.shape[1] + 1))


def _reference(mu: Tensor, sigma: Tensor, gamma: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    _, q = _pairs(mu, sigma)
    w = (gamma / gamma.sum(0).clamp_min(SMALLEST_CLUSTER)) @ gamma.T
    loss = (w * (q.exp().sum(1).log()[:, None] - q)).sum() * _scale(len(q), rows)
    return loss, _state(mu, gamma).zero_()


def _reference_bwd(
    mu: Tensor, sigma: Tensor, gamma: Tensor, state: Tensor, grad: Tensor,
    rows: bool, need_mu: bool, need_sigma: bool, need_gamma: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The derivative in closed form; the header of csrc/wasserstein_similarity/math.h derives nothing else."""
    u, q = _pairs(mu, sigma)
    size, total = gamma.sum(0).clamp_min(SMALLEST_CLUSTER), gamma.sum(0)
    w = (gamma / size) @ gamma.T
    z, r, c = q.exp().sum(1), q @ gamma, grad * _scale(len(q), rows)
    share = w.sum(1) / z
    s = c * q.square() * (2 * w - q.exp() * (share[:, None] + share[None]))
    s.fill_diagonal_(0)
    g_u = 2 * (s.sum(1, keepdim=True) * u - s @ u)
    clamped = total < SMALLEST_CLUSTER
    same, entropy = (gamma * r).sum(0) / size, gamma.T @ z.log()
    g_gamma = c * (z.log()[:, None] * total - 2 * r + torch.where(clamped, entropy, same)) / size
    g_mu, g_sigma = g_u.chunk(2, 1)
    pairs = zip((g_mu, g_sigma, g_gamma), (need_mu, need_sigma, need_gamma), strict=True)
    return tuple(g.contiguous() if need else g.new_empty(0, g.shape[1]) for g, need in pairs)  # type: ignore[return-value]


def _fake(mu: Tensor, sigma: Tensor, gamma: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    return mu.new_empty(()), _state(mu, gamma)


def _fake_bwd(
    mu: Tensor, sigma: Tensor, gamma: Tensor, state: Tensor, grad: Tensor,
    rows: bool, need_mu: bool, need_sigma: bool, need_gamma: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    pairs = ((mu, need_mu), (sigma, need_sigma), (gamma, need_gamma))
    return tuple(x.new_empty(x.shape[0] if need else 0, x.shape[1]) for x, need in pairs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    mu, sigma, gamma, ctx.rows = inputs
    _, state = output
    ctx.mark_non_differentiable(state)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(mu, sigma, gamma, state)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    if grad is None or not any(needs):
        return None, None, None, None
    g_mu, g_sigma, g_gamma = _bwd(*ctx.saved_tensors, grad, ctx.rows, *needs)
    return g_mu if needs[0] else None, g_sigma if needs[1] else None, g_gamma if needs[2] else None, None


_bwd = define(
    "wasserstein_similarity_bwd",
    "(Tensor mu, Tensor sigma, Tensor gamma, Tensor state, Tensor grad, bool rows, "
    "bool need_mu, bool need_sigma, bool need_gamma) -> (Tensor, Tensor, Tensor)",
    reference=_reference_bwd,
    fake=_fake_bwd,
)
_loss = define(
    "wasserstein_similarity",
    "(Tensor mu, Tensor sigma, Tensor gamma, bool rows) -> (Tensor loss, Tensor state)",
    reference=_reference,
    fake=_fake,
    save=_save,
    backward=_backward,
    autocast=torch.float32,
)


def wasserstein_similarity(
    mu: Tensor,
    sigma: Tensor,
    gamma: Tensor,
    *,
    normalization: Literal["pairs", "rows"] = "pairs",
    detach_weights: bool = False,
    gather: Gather | None = None,
) -> Tensor:
    """DVAE's similarity loss over all pairs of a batch, without an N x N matrix.

        D_ij = |mu_i - mu_j|^2 + |sigma_i - sigma_j|^2      squared 2-Wasserstein distance of diagonal Gaussians
        Q_ij = 1 / (1 + D_ij)
        w_ij = sum_k gamma_ik gamma_jk / max(sum_l gamma_lk, 1e-8)
        loss = -c sum_ij w_ij log softmax_j(Q_ij)           c = 1/N^2 ("pairs") or 1/N ("rows")

    Args:
        mu: (N, Z) posterior means.
        sigma: (N, Z) posterior standard deviations, not variances and not logarithms.
        gamma: (N, K) cluster probabilities; rows need not sum to one.
        normalization: "pairs" divides by N^2, as printed in the paper, "rows" by N.
        detach_weights: treat w as constant, so that gamma gets no gradient.
        gather: for a batch that is spread over ranks: takes rows of this rank, (n, any), and returns those of all ranks in
            one order, (N, any), and the place of this rank's first row. It is called twice, in the forward only. The
            loss is then that of all rows, the same on every rank, and the gradient that of this rank's rows, complete:
            gradients of shared parameters are to be added over ranks, not averaged. Ranks may hold different numbers.

    Returns:
        () the loss.

    Types: float32, float64; half types compute in float32 and give a float32 loss. Autocast: float32.
    Gradient: mu, sigma, gamma, first order, the same bits at any thread count. Second order raises; use
        ``with ops.backend("reference")``.
    Cost: O(N^2 (Z + K)) time, O(N (Z + K)) memory.
    Source: Ma, Math. Biosci. Eng. 19(10) 2022, eqs 3.8-3.13.

    Raises:
        TypeError: an argument is not a tensor, or not of a floating type.
        ValueError: shapes, dtypes or devices disagree, N = 0, or the normalization is unknown.

    >>> mu, sigma = torch.tensor([[0.0], [0.0], [9.0]]), torch.ones(3, 1)
    >>> gamma = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(wasserstein_similarity(mu, sigma, gamma, normalization="rows").item(), 4)
    0.7615
    """
    mu, sigma, gamma = pair_inputs("wasserstein_similarity", mu=mu, sigma=sigma, gamma=gamma)
    if mu.shape != sigma.shape:
        got = f"{tuple(mu.shape)} and {tuple(sigma.shape)}"
        raise wrong(
            "wasserstein_similarity", "shapes of mu and sigma", "the same (N, Z)", got,
            "pass one mean and one deviation per latent",
        )  # fmt: skip
    one_of("wasserstein_similarity", "normalization", normalization, ("pairs", "rows"))
    gamma = gamma.detach() if detach_weights else gamma
    if gather is not None:
        return of_own_rows(mu, sigma, gamma, gather, normalization == "rows")
    return _loss(mu, sigma, gamma, normalization == "rows")[0]
