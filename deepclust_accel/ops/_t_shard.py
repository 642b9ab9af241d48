"""t_similarity of rows that several processes hold: each has its own rows and sees those of all.

A process computes the sums of its own rows over all columns, the sums are gathered (three numbers a row, without the
diagonal two more), and then it has what the complete gradient of its own rows needs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._define import define
from ._validate import Gather, gathered

_OPTIONS = "float dof_z, float dof_e, bool rows, bool diagonal, float shift_z, float shift_e, int start, int count"


def _student(u: Tensor, dof: float, diagonal: bool, start: int, count: int) -> tuple[Tensor, Tensor]:
    """log p~ (count, N) of the own rows to all, minus infinity where they meet themselves if that does not count, and
    1 / (1 + |u_i - u_j|^2 / dof)."""
    x = (u[start : start + count, None] - u).square().sum(2) / dof
    log = -0.5 * (dof + 1) * torch.log1p(x)
    if not diagonal:
        log = log.index_put((torch.arange(count), torch.arange(start, start + count)), log.new_tensor(-math.inf))
    return log, 1 / (1 + x)


def _reference_nearest(
    z: Tensor, e: Tensor, dof_z: float, dof_e: float, rows: bool, start: int, count: int
) -> Tensor:  # fmt: skip
    logs = (_student(u, dof, False, start, count)[0] for u, dof in ((z, dof_z), (e, dof_e)))
    return torch.stack([log.amax(1) for log in logs], 1)


def _shifts(numbers: Tensor, rows: bool, diagonal: bool, shift_z: float, shift_e: float) -> tuple[Tensor, Tensor]:
    """What lp and lq are relative to, for every row."""
    if rows and not diagonal:
        return numbers[:, 0], numbers[:, 1]
    return torch.full_like(numbers[:, 0], shift_z), torch.full_like(numbers[:, 0], shift_e)


def _reference_sums(
    z: Tensor, e: Tensor, numbers: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool,
    shift_z: float, shift_e: float, start: int, count: int,
) -> Tensor:  # fmt: skip
    m_z, m_e = (m[start : start + count, None] for m in _shifts(numbers, rows, diagonal, shift_z, shift_e))
    log_p, log_q = _student(z, dof_z, diagonal, start, count)[0], _student(e, dof_e, diagonal, start, count)[0]
    p = (log_p - m_z).exp()
    cross = p * log_q.masked_fill(log_q == -math.inf, 0)
    return torch.stack([p.sum(1), (log_q - m_e).exp().sum(1), cross.sum(1)], 1).double()


def _reference_pull(
    z: Tensor, e: Tensor, numbers: Tensor, dof_z: float, dof_e: float, rows: bool, diagonal: bool,
    shift_z: float, shift_e: float, start: int, count: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    own = slice(start, start + count)
    m_z, m_e = _shifts(numbers, rows, diagonal, shift_z, shift_e)
    log_p, inverse_x = _student(z, dof_z, diagonal, start, count)
    log_q, inverse_y = _student(e, dof_e, diagonal, start, count)
    over_p, over_q = numbers[:, 3], numbers[:, 4]
    mean = numbers[:, 2] if rows and not diagonal else numbers[:, 2] / over_p
    p_i, p_j = ((log_p - m_z[i]).exp() * over_p[i] for i in ((own, None), (None,)))
    q_i, q_j = ((log_q - m_e[i]).exp() * over_q[i] for i in ((own, None), (None,)))
    log_q = log_q.masked_fill(log_q == -math.inf, 0)
    s_z = (dof_z + 1) / dof_z * inverse_x * (p_i * (log_q - mean[own, None]) + p_j * (log_q - mean))
    s_e = (dof_e + 1) / dof_e * inverse_y * (p_i + p_j - q_i - q_j)
    return tuple(s.sum(1, keepdim=True) * u[own] - s @ u for s, u in ((s_z, z), (s_e, e)))  # type: ignore[return-value]


_nearest = define(
    "t_similarity_own_nearest",
    "(Tensor z, Tensor e, float dof_z, float dof_e, bool rows, int start, int count) -> Tensor",
    reference=_reference_nearest,
    fake=lambda z, e, dof_z, dof_e, rows, start, count: z.new_empty(count, 2),
    part_of="t_similarity",
)
_sums = define(
    "t_similarity_own_sums",
    f"(Tensor z, Tensor e, Tensor numbers, {_OPTIONS}) -> Tensor",
    reference=_reference_sums,
    fake=lambda z, *rest: z.new_empty(rest[-1], 3, dtype=torch.float64),
    part_of="t_similarity",
)
_pull = define(
    "t_similarity_own_pull",
    f"(Tensor z, Tensor e, Tensor numbers, {_OPTIONS}) -> (Tensor, Tensor)",
    reference=_reference_pull,
    fake=lambda z, e, *rest: (z.new_empty(rest[-1], z.shape[1]), e.new_empty(rest[-1], e.shape[1])),
    part_of="t_similarity",
)


class _Shard(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, e: Tensor, gather: Gather, dof_z: float, dof_e: float, rows: bool, diagonal: bool
    ) -> Tensor:  # fmt: skip
        count = len(z)
        everything, start = gathered("t_similarity", gather, torch.cat([z, e], 1))
        all_z, all_e = everything.split([z.shape[1], e.shape[1]], 1)
        shifts, shift_z, shift_e = everything.new_zeros(len(everything), 2), 0.0, 0.0
        if not diagonal:
            nearest = _nearest(all_z, all_e, dof_z, dof_e, rows, start, count)
            shifts, _ = gathered("t_similarity", gather, nearest)
            if not rows:
                shift_z, shift_e = shifts.amax(0).tolist()
                shift_e = 0.0 if dof_e == 1 else shift_e  # q~ = 1 / (1 + y) needs none
        options = dof_z, dof_e, rows, diagonal, shift_z, shift_e, start, count
        sums, _ = gathered("t_similarity", gather, _sums(all_z, all_e, shifts, *options))
        p, q, cross = sums.unbind(1)
        if not rows:
            p, q, cross = (x.sum().expand(len(sums)) for x in (p, q, cross))
        mean = cross / p
        loss = q.log() - mean + (shifts[:, 1].double() if rows and not diagonal else shift_e)
        numbers = torch.stack([mean if rows and not diagonal else mean / p, 1 / p, 1 / q], 1)
        ctx.options = options
        ctx.save_for_backward(all_z, all_e, torch.cat([shifts, numbers.to(shifts)], 1))
        return (loss.sum() if rows else loss[0]).to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        g_z, g_e = _pull(*ctx.saved_tensors, *ctx.options)
        return g_z * grad, g_e * grad, None, None, None, None, None


def of_own_rows(
    z: Tensor, e: Tensor, gather: Gather, dof_z: float, dof_e: float, rows: bool, diagonal: bool
) -> Tensor:  # fmt: skip
    """The loss of the rows of all processes, with the gradient of this one's; see `t_similarity`."""
    return _Shard.apply(z, e, gather, dof_z, dof_e, rows, diagonal)
