"""Log-responsibilities of a mixture of diagonal Gaussians: the posterior of VaDE, and the E step of a diagonal GMM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._define import define
from ._validate import floats, rows_and_centers, wrong

_OP = "mixture_posterior"


def _joint(z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """(N, K) log p(z_i, k) up to a constant; squares are expanded around the middle of the means, so that an offset
    costs no digits."""
    middle = mean.mean(0).detach()
    z, mean = z - middle, mean - middle
    precision = (-log_variance).exp()
    squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
    return log_weights - 0.5 * (log_variance.sum(1) + squares.clamp_min(0))


def _reference(z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return _joint(z, log_weights, mean, log_variance).log_softmax(1)


def _reference_bwd(
    z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor, log_r: Tensor, grad: Tensor,
    need_z: bool, need_centers: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The derivative in closed form, csrc/mixture_posterior/math.h."""
    middle = mean.mean(0)
    x, m, precision = z - middle, mean - middle, (-log_variance).exp()
    s = grad - log_r.exp() * grad.sum(1, keepdim=True)
    total = s.sum(0)
    k = len(mean) if need_centers else 0
    g_z = s @ (m * precision) - (s @ precision) * x if need_z else z.new_empty(0, z.shape[1])
    first = s.T @ x - total[:, None] * m
    second = s.T @ x.square() - 2 * m * (s.T @ x) + total[:, None] * m.square()
    found = total, precision * first, 0.5 * (precision * second - total[:, None])
    return g_z.contiguous(), *(g[:k].clone() for g in found)


def _fake(z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    return z.new_empty(z.shape[0], mean.shape[0])


def _fake_bwd(
    z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor, log_r: Tensor, grad: Tensor,
    need_z: bool, need_centers: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    n, k, d = z.shape[0] if need_z else 0, mean.shape[0] if need_centers else 0, z.shape[1]
    return z.new_empty(n, d), z.new_empty(k), z.new_empty(k, d), z.new_empty(k, d)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output)


def _backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:4]
    if grad is None or not any(needs):
        return None, None, None, None
    found = _bwd(*ctx.saved_tensors, grad, needs[0], any(needs[1:]))
    return tuple(g if need else None for g, need in zip(found, needs, strict=True))


_bwd = define(
    "mixture_posterior_bwd",
    "(Tensor z, Tensor log_weights, Tensor mean, Tensor log_variance, Tensor log_r, Tensor grad, "
    "bool need_z, bool need_centers) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=_reference_bwd,
    fake=_fake_bwd,
)
_posterior = define(
    _OP,
    "(Tensor z, Tensor log_weights, Tensor mean, Tensor log_variance) -> Tensor",
    reference=_reference,
    fake=_fake,
    save=_save,
    backward=_backward,
    autocast=torch.float32,
)


def mixture_posterior(z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Logarithm of the probability that each row came from each component of a mixture of diagonal Gaussians.

        log r_ik = l_ik - log sum_l exp(l_il),    l_ik = log_weights_k + log N(z_i | mean_k, diag exp(log_variance_k))

    Args:
        z: (N, D) rows; N may be 0.
        log_weights: (K,) logarithms of the weights; a constant added to all of them changes nothing.
        mean: (K, D).
        log_variance: (K, D).

    Returns:
        (N, K); the exponentials of a row sum to one. A row with a value that is not finite is NaN.

    Types: float32, float64; half types compute in float32 and give a float32 result. Autocast: float32. Log-variances
        beyond +-80 leave the range of float32.
    Gradient: all four arguments, first order, the same bits at any thread count. Second order raises; use
        ``with ops.backend("reference")``.
    Cost: O(N K D) time; memory is the result, and for the gradient the result, its inputs and O(N D).
    Source: Jiang et al., IJCAI 2017 (VaDE), eq. 16; Bishop, Pattern Recognition and Machine Learning, eq. 9.13.

    Raises:
        TypeError: an argument is not a tensor, or not of a floating type.
        ValueError: shapes, dtypes or devices disagree, or K = 0 or D = 0.

    >>> z, mean = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    >>> mixture_posterior(z, torch.zeros(2), mean, torch.zeros(2, 1)).exp()
    tensor([[0.6225, 0.3775],
            [0.1824, 0.8176]])
    """
    z, log_weights, mean, log_variance = floats(_OP, z=z, log_weights=log_weights, mean=mean, log_variance=log_variance)
    rows_and_centers(_OP, ("z", "mean"), z, mean)
    if log_variance.shape != mean.shape:
        got = f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
        raise wrong(_OP, "shapes of mean and log_variance", "the same (K, D)", got, "pass one variance per mean")
    if log_weights.shape != mean.shape[:1]:
        want, got = f"({len(mean)},), one per mean", tuple(log_weights.shape)
        raise wrong(_OP, "shape of log_weights", want, got, "pass one logarithm of a weight per component")
    return _posterior(z, log_weights, mean, log_variance)
