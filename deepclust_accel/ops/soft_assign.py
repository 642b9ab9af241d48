"""Student-t soft assignment of rows to centers: what DEC, IDEC and their descendants train against."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._define import define
from ._validate import floats, rows_and_centers, wrong


def _distances(z: Tensor, centers: Tensor) -> Tensor:
    """(N, K) squared distances by the product form, around the middle of the centers so that an offset costs no digits."""
    middle = centers.mean(0).detach()
    z, centers = z - middle, centers - middle
    return (z.square().sum(1)[:, None] + centers.square().sum(1)[None] - 2 * z @ centers.T).clamp_min(0)


def _reference(z: Tensor, centers: Tensor, dof: float) -> Tensor:
    d = _distances(z, centers)
    if dof == 1:
        w = 1 / (1 + d)
        return w / w.sum(1, keepdim=True)
    return (-(dof + 1) / 2 * (d / dof).log1p()).softmax(1)


def _reference_bwd(
    z: Tensor, centers: Tensor, q: Tensor, grad: Tensor, dof: float, need_z: bool, need_centers: bool
) -> tuple[Tensor, Tensor]:
    """The derivative in closed form, csrc/soft_assign/math.h."""
    middle = centers.mean(0)
    s = -(dof + 1) * q * (grad - (q * grad).sum(1, keepdim=True)) / (dof + _distances(z, centers))
    x, c = z - middle, centers - middle
    g_z = s.sum(1, keepdim=True) * x - s @ c if need_z else z.new_empty(0, z.shape[1])
    g_centers = s.sum(0)[:, None] * c - s.T @ x if need_centers else z.new_empty(0, z.shape[1])
    return g_z, g_centers


def _fake(z: Tensor, centers: Tensor, dof: float) -> Tensor:
    return z.new_empty(z.shape[0], centers.shape[0])


def _fake_bwd(
    z: Tensor, centers: Tensor, q: Tensor, grad: Tensor, dof: float, need_z: bool, need_centers: bool
) -> tuple[Tensor, Tensor]:
    pairs = ((z, need_z), (centers, need_centers))
    return tuple(x.new_empty(x.shape[0] if need else 0, x.shape[1]) for x, need in pairs)  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, centers, ctx.dof = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(z, centers, output)


def _backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    if grad is None or not any(needs):
        return None, None, None
    g_z, g_centers = _bwd(*ctx.saved_tensors, grad, ctx.dof, *needs)
    return g_z if needs[0] else None, g_centers if needs[1] else None, None


_bwd = define(
    "soft_assign_bwd",
    "(Tensor z, Tensor centers, Tensor q, Tensor grad, float dof, bool need_z, bool need_centers) -> (Tensor, Tensor)",
    reference=_reference_bwd,
    fake=_fake_bwd,
)
_assign = define(
    "soft_assign",
    "(Tensor z, Tensor centers, float dof) -> Tensor",
    reference=_reference,
    fake=_fake,
    save=_save,
    backward=_backward,
    autocast=torch.float32,
)


def soft_assign(z: Tensor, centers: Tensor, *, dof: float = 1.0) -> Tensor:
    """Probability of every center for every row, by a Student-t kernel of the distance.

        q_ik = w_ik / sum_l w_il,    w_ik = (1 + |z_i - c_k|^2 / dof)^(-(dof + 1) / 2)

    Args:
        z: (N, D) rows; N may be 0.
        centers: (K, D).
        dof: degrees of freedom of the kernel, positive; 1 in nearly every method.

    Returns:
        (N, K); rows sum to one. A row with a value that is not finite is NaN.

    Types: float32, float64; half types compute in float32 and give a float32 result. Autocast: float32.
    Gradient: z, centers, first order, the same bits at any thread count. Second order raises; use
        ``with ops.backend("reference")``.
    Cost: O(N K D) time; memory is the result, and for the gradient the result, its inputs and O(N D).
    Source: Xie et al., ICML 2016 (DEC), eq. 1.

    Raises:
        TypeError: an argument is not a tensor, or not of a floating type.
        ValueError: shapes, dtypes or devices disagree, K = 0 or D = 0, or dof is not a positive number.

    >>> soft_assign(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]]))
    tensor([[0.6667, 0.3333],
            [0.2857, 0.7143]])
    """
    z, centers = floats("soft_assign", z=z, centers=centers)
    rows_and_centers("soft_assign", ("z", "centers"), z, centers)
    if not 0 < dof < math.inf:
        raise wrong("soft_assign", "dof", "a positive number", dof, "1 is the kernel of DEC")
    return _assign(z, centers, float(dof))
