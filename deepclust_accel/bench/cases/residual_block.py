"""DCFAE's residual block on 128 channels of 8 x 8: as a user writes it, and in float64. Rows are images.

The other shapes of DCFAE, with their bare convolutions beside them, are in `bench/residual_block.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

CHANNELS, SIZE = 128, 8


def inputs(rows: int) -> Inputs:
    """Standard normal images, weights that keep their scale; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, CHANNELS, SIZE, SIZE, generator=g)
    weights = [torch.randn(CHANNELS, CHANNELS, 3, 3, generator=g) * (9 * CHANNELS) ** -0.5 for _ in range(2)]
    biases = [torch.randn(CHANNELS, generator=g) for _ in range(2)]
    return tuple(t.requires_grad_() for t in (x, weights[0], biases[0], weights[1], biases[1]))


def upstream(rows: int) -> Tensor:
    """The gradient of a loss that weighs all pixels."""
    return torch.randn(rows, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(rows + 1))


def eager(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Two convolutions of torch."""
    hidden = torch.relu(F.conv2d(x, weight1, bias1, padding=1))
    return torch.relu(x + F.conv2d(hidden, weight2, bias2, padding=1))


def exact(tensors: Inputs) -> tuple[Tensor, Inputs]:
    """Value and gradients of the definition in float64."""
    leaves = [t.detach().double().requires_grad_() for t in tensors]
    value = eager(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves, upstream(len(leaves[0])).double())


def multiply_adds(rows: int, channels: int = CHANNELS, size: int = SIZE) -> dict[str, int]:
    """Of direct convolutions that skip the padding: two forward, and two for each of their gradients (input, weight).
    Convolutions by tiles, as ours and oneDNN's, need less, so a share above that of a matrix product is possible."""
    one = rows * channels**2 * (3 * size - 2) ** 2
    return {"forward": 2 * one, "backward": 4 * one}


CASE = Case(
    operator="residual_block",
    shape=f"{CHANNELS} channels of {SIZE} x {SIZE}, float32",
    names=("x", "weight1", "bias1", "weight2", "bias2"),
    inputs=inputs,
    call=ops.residual_block,
    eager=eager,
    keops=None,
    exact=exact,
    multiply_adds=multiply_adds,
    dense_floats={"reference": 6, "eager": 6, "compile": 6},
    tolerance=1e-4,
    rows=(64, 256),
    columns=CHANNELS * SIZE * SIZE,
    upstream=upstream,
)
