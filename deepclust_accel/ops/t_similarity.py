"""DCFAE's similarity loss: Student-t neighbourhoods of a latent code, to be kept by an embedding of it."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ._define import define
from ._t_shard import of_own_rows
from ._validate import Gather, one_of, pair_inputs, wrong

_OPTIONS = "float dof_z, float dof_e, bool rows, bool diagonal"


def _log_similarity(u: Tensor, dof: float, diagonal: bool) -> tuple[Tensor, Tensor]:
    """log p~ (N, N), minus infinity on a diagonal that does not take part, and 1 / (1 + |u_i - u_j|^2 / dof)."""
    u = u - u.mean(0).detach()
    square = u.square().sum(1)
    d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
    self = torch.eye(len(d), dtype=torch.bool, device=d.device)
    x = d.masked_fill(self, 0) / dof
    log = -0.5 * (dof + 1) * torch.log1p(x)
    return log if diagonal else log.masked_fill(self, -math.inf), 1 / (1 + x)


def _log_probability(log: Tensor, rows: bool) -> Tensor:
    return log - (log.logsumexp(1, keepdim=True) if rows else log.flatten().logsumexp(0))


def _state(z: Tensor, e: Tensor) -> Tensor:
    """Room for what a native forward keeps for its backward, csrc/t_similarity/cpu.cpp says what."""
    rows = (z.shape[0] + 63) // 64 * 64
    return z.new_empty(rows * (z.shape[1] + e.shape[1] + 5) + 2)


def _reference(
    z: Tensor, e: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    p = _log_probability(_log_similarity(z, dof_z, diagonal)[0], rows).exp()
    log_q = _log_probability(_log_similarity(e, dof_e, diagonal)[0], rows)
    return -(p * (log_q if diagonal else log_q.masked_fill(log_q == -math.inf, 0))).sum(), _state(z, e).zero_()


def _reference_bwd(
    z: Tensor, e: Tensor, state: Tensor, grad: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool,
    need_z: bool, need_e: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The derivative in closed form, as in the header of csrc/t_similarity/math.h."""
    log_p, inverse_x = _log_similarity(z, dof_z, diagonal)
    log_q, inverse_y = _log_similarity(e, dof_e, diagonal)
    p, q = _log_probability(log_p, rows).exp(), _log_probability(log_q, rows).exp()
    log_q = log_q if diagonal else log_q.masked_fill(log_q == -math.inf, 0)
    mean = (p * log_q).sum(1, keepdim=True) if rows else (p * log_q).sum()
    pull = p * (log_q - mean)
    s_z = grad * (dof_z + 1) / dof_z * inverse_x * (pull + pull.T)
    s_e = grad * (dof_e + 1) / dof_e * inverse_y * (p + p.T - q - q.T)
    return _contract(s_z, z, need_z), _contract(s_e, e, need_e)


def _contract(s: Tensor, u: Tensor, need: bool) -> Tensor:
    """sum_j S_ij (u_i - u_j)"""
    if not need:
        return u.new_empty(0, u.shape[1])
    u, s = u - u.mean(0), s.clone().fill_diagonal_(0)
    return s.sum(1, keepdim=True) * u - s @ u


def _fake(z: Tensor, e: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool) -> tuple[Tensor, Tensor]:
    return z.new_empty(()), _state(z, e)


def _fake_bwd(
    z: Tensor, e: Tensor, state: Tensor, grad: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool,
    need_z: bool, need_e: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return z.new_empty(len(z) if need_z else 0, z.shape[1]), e.new_empty(len(e) if need_e else 0, e.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    z, e, *ctx.options = inputs
    _, state = output
    ctx.mark_non_differentiable(state)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(z, e, state)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    need_z, need_e = ctx.needs_input_grad[:2]
    if grad is None or not (need_z or need_e):
        return (None,) * 6
    g_z, g_e = _bwd(*ctx.saved_tensors, grad, *ctx.options, need_z, need_e)
    return g_z if need_z else None, g_e if need_e else None, None, None, None, None


_bwd = define(
    "t_similarity_bwd",
    f"(Tensor z, Tensor e, Tensor state, Tensor grad, {_OPTIONS}, bool need_z, bool need_e) -> (Tensor, Tensor)",
    reference=_reference_bwd,
    fake=_fake_bwd,
)
_loss = define(
    "t_similarity",
    f"(Tensor z, Tensor e, {_OPTIONS}) -> (Tensor loss, Tensor state)",
    reference=_reference,
    fake=_fake,
    save=_save,
    backward=_backward,
    autocast=torch.float32,
)


def t_similarity(
    z: Tensor,
    e: Tensor,
    *,
    dof_z: float,
    dof_e: float = 1.0,
    normalization: Literal["global", "rows"] = "global",
    include_diagonal: bool = True,
    detach_target: bool = False,
    gather: Gather | None = None,
) -> Tensor:
    """DCFAE's cross-entropy between Student-t pair similarities of z (target p) and e (model q), without an N x N matrix.

        p_ij ~ (1 + |z_i - z_j|^2 / a)^(-(a+1)/2)      q_ij ~ (1 + |e_i - e_j|^2 / b)^(-(b+1)/2)
        loss = -sum_ij p_ij log q_ij

    Args:
        z: (N, D) latent means.
        e: (N, E) embeddings of the same rows.
        dof_z: degrees of freedom a of p; DCFAE has 2 D.
        dof_e: degrees of freedom b of q.
        normalization: "global", p and q sum to 1 over all pairs; "rows", over the pairs of each row, and the loss is the
            sum over rows.
        include_diagonal: pairs i = j take part. With a large dof_z they hold nearly all of p (a share of 0.98 at a
            standard deviation of 0.5, N = 256, D = 50), and the loss only spreads e; t-SNE leaves them out.
        detach_target: treat p as constant, so that z gets no gradient through it.
        gather: for a batch that is spread over ranks, as in `wasserstein_similarity`.

    Returns:
        () the loss.

    Types: float32, float64; half types compute in float32 and give a float32 loss. Autocast: float32.
    Gradient: z and e, first order, the same bits at any thread count. Second order raises; use
        ``with ops.backend("reference")``.
    Cost: O(N^2 (D + E)) time, O(N (D + E)) memory; without the diagonal one more pass over all distances.
    Source: Chang, arXiv 2201.04727 (global, with diagonal); Dahal, IEEE BigData 2018 (rows, without).

    Raises:
        TypeError: an argument is not a tensor, or not of a floating type.
        ValueError: shapes, dtypes or devices disagree, an empty input, a single row without the diagonal, degrees of
            freedom that are not positive and finite, or an unknown normalization.

    >>> z = torch.tensor([[0.0], [1.0], [5.0]])
    >>> same = t_similarity(z, torch.zeros(3, 2), dof_z=2.0)  # q uniform over 9 pairs
    >>> round(same.item() / math.log(9), 6)
    1.0
    """
    z, e = pair_inputs("t_similarity", z=z, e=e)
    one_of("t_similarity", "normalization", normalization, ("global", "rows"))
    for name, dof in (("dof_z", dof_z), ("dof_e", dof_e)):
        if not (isinstance(dof, int | float) and 0 < dof < math.inf):
            raise wrong("t_similarity", name, "a positive number", repr(dof), "DCFAE has 2 D for z and 1 for e")
    if len(z) == 1 and not include_diagonal and gather is None:
        raise wrong("t_similarity", "rows", "at least two without the diagonal", 1, "skip such a batch")
    z = z.detach() if detach_target else z
    if gather is not None:
        return of_own_rows(z, e, gather, float(dof_z), float(dof_e), normalization == "rows", include_diagonal)
    return _loss(z, e, float(dof_z), float(dof_e), normalization == "rows", include_diagonal)[0]
