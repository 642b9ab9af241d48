"""Log-responsibilities of 10 and of 100 diagonal Gaussians: as a user writes them, and in float64 by row blocks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

LATENT = 10
_BLOCK_ROWS = 4096


def inputs(rows: int, components: int) -> Inputs:
    """Standard normal rows and means, deviations of about one; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    z, mean = torch.randn(rows, LATENT, generator=g), torch.randn(components, LATENT, generator=g)
    log_variance = 0.5 * torch.randn(components, LATENT, generator=g)
    log_weights = torch.randn(components, generator=g).log_softmax(0)
    return tuple(x.requires_grad_() for x in (z, log_weights, mean, log_variance))


def upstream(rows: int, components: int) -> Tensor:
    """The gradient of a loss that weighs all log-responsibilities."""
    return torch.randn(rows, components, generator=torch.Generator().manual_seed(rows + 1))


def eager(z: Tensor, log_weights: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Two matrix products: several times faster than (z[:, None] - mean), which holds N x K x D numbers."""
    precision = (-log_variance).exp()
    squares = (z * z) @ precision.T - 2 * z @ (mean * precision).T + (mean * mean * precision).sum(1)
    return (log_weights - 0.5 * (log_variance.sum(1) + squares)).log_softmax(1)


def exact(tensors: Inputs) -> tuple[Tensor, Inputs]:
    """Value and gradients in float64: the definition over blocks of rows, differentiated by autograd."""
    z, *rest = (x.detach().double() for x in tensors)
    log_weights, mean, log_variance = (x.requires_grad_() for x in rest)
    above, values, g_z = upstream(len(z), len(mean)), [], []
    for start in range(0, len(z), _BLOCK_ROWS):
        part = z[start : start + _BLOCK_ROWS].requires_grad_()
        squares = ((part[:, None] - mean).square() * (-log_variance).exp()).sum(2)
        log_r = (log_weights - 0.5 * (log_variance.sum(1) + squares)).log_softmax(1)
        log_r.backward(above[start : start + _BLOCK_ROWS].double())
        values.append(log_r.detach())
        g_z.append(part.grad)
    return torch.cat(values), (torch.cat(g_z), log_weights.grad, mean.grad, log_variance.grad)


def multiply_adds(rows: int, components: int) -> dict[str, int]:
    """Per row and component. Forward: the sum of scaled squares (2D). Backward: slope times difference (D), that times
    the precision into the row (D), and times the difference into the variance (D). Exponentials, logarithms and O(1)
    arithmetic are not counted."""
    return {"forward": 2 * rows * components * LATENT, "backward": 3 * rows * components * LATENT}


def _case(components: int, variant: str = "") -> Case:
    return Case(
        operator="mixture_posterior",
        shape=f"D={LATENT}, K={components}, float32",
        names=("z", "log_weights", "mean", "log_variance"),
        inputs=partial(inputs, components=components),
        call=ops.mixture_posterior,
        eager=eager,
        keops=None,
        exact=exact,
        multiply_adds=partial(multiply_adds, components=components),
        dense_floats={"reference": 5, "eager": 5, "compile": 4},
        tolerance=1e-4,
        rows=(4096, 65_536, 1_000_000),
        columns=components,
        upstream=partial(upstream, components=components),
        variant=variant,
    )


CASES = (_case(100), _case(10, "-k10"))
