"""Student-t assignment of rows to 10 and to 100 centers: as a user writes it, and in float64 by row blocks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

LATENT = 10
_BLOCK_ROWS = 4096


def inputs(rows: int, centers: int) -> Inputs:
    """Standard normal rows and centers; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    return tuple(torch.randn(n, LATENT, generator=g).requires_grad_() for n in (rows, centers))


def upstream(rows: int, centers: int) -> Tensor:
    """The gradient of a loss that weighs all probabilities."""
    return torch.randn(rows, centers, generator=torch.Generator().manual_seed(rows + 1))


def eager(z: Tensor, centers: Tensor) -> Tensor:
    """The product form: several times faster than (z[:, None] - centers), which holds N x K x D numbers, and than cdist."""
    d = ((z * z).sum(1, keepdim=True) + (centers * centers).sum(1) - 2 * z @ centers.T).clamp_min(0)
    w = 1 / (1 + d)
    return w / w.sum(1, keepdim=True)


def exact(tensors: Inputs) -> tuple[Tensor, Inputs]:
    """Value and gradients in float64: the definition over blocks of rows, differentiated by autograd."""
    z, centers = (x.detach().double() for x in tensors)
    centers.requires_grad_()
    above, values, g_z = upstream(len(z), len(centers)), [], []
    for start in range(0, len(z), _BLOCK_ROWS):
        part = z[start : start + _BLOCK_ROWS].requires_grad_()
        w = 1 / (1 + torch.cdist(part, centers, compute_mode="donot_use_mm_for_euclid_dist").square())
        q = w / w.sum(1, keepdim=True)
        q.backward(above[start : start + _BLOCK_ROWS].double())
        values.append(q.detach())
        g_z.append(part.grad)
    return torch.cat(values), (torch.cat(g_z), centers.grad)


def multiply_adds(rows: int, centers: int) -> dict[str, int]:
    """Per row and center. Forward: the distance (D). Backward: the distance again, as only the result is kept (D), and
    the slope times the difference into the row and into the center (2D). Divisions and O(1) arithmetic not counted."""
    return {"forward": rows * centers * LATENT, "backward": 3 * rows * centers * LATENT}


def _case(centers: int, variant: str = "") -> Case:
    return Case(
        operator="soft_assign",
        shape=f"D={LATENT}, K={centers}, float32",
        names=("z", "centers"),
        inputs=partial(inputs, centers=centers),
        call=ops.soft_assign,
        eager=eager,
        keops=None,
        exact=exact,
        multiply_adds=partial(multiply_adds, centers=centers),
        dense_floats={"reference": 6, "eager": 6, "compile": 4},
        tolerance=1e-4,
        rows=(4096, 65_536, 1_000_000),
        columns=centers,
        upstream=partial(upstream, centers=centers),
        variant=variant,
    )


CASES = (_case(100), _case(10, "-k10"))
