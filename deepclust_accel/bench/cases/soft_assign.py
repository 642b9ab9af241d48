"""Student-t assignment of rows to 100 centers: as a user writes it, and in float64 by row blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.case import Case, Inputs

LATENT, CENTERS = 10, 100
_BLOCK_ROWS = 4096


def inputs(rows: int) -> Inputs:
    """Standard normal rows and centers; the seed is fixed."""
    g = torch.Generator().manual_seed(rows)
    z, centers = torch.randn(rows, LATENT, generator=g), torch.randn(CENTERS, LATENT, generator=g)
    return z.requires_grad_(), centers.requires_grad_()


def upstream(rows: int) -> Tensor:
    """The gradient of a loss that weighs all probabilities."""
    return torch.randn(rows, CENTERS, generator=torch.Generator().manual_seed(rows + 1))


def eager(z: Tensor, centers: Tensor) -> Tensor:
    """The product form: several times faster than (z[:, None] - centers), which holds N x K x D numbers, and than cdist."""
    d = ((z * z).sum(1, keepdim=True) + (centers * centers).sum(1) - 2 * z @ centers.T).clamp_min(0)
    w = 1 / (1 + d)
    return w / w.sum(1, keepdim=True)


def exact(tensors: Inputs) -> tuple[Tensor, Inputs]:
    """Value and gradients in float64: the definition over blocks of rows, differentiated by autograd."""
    z, centers = (x.detach().double() for x in tensors)
    centers.requires_grad_()
    above, values, g_z = upstream(len(z)), [], []
    for start in range(0, len(z), _BLOCK_ROWS):
        part = z[start : start + _BLOCK_ROWS].requires_grad_()
        w = 1 / (1 + torch.cdist(part, centers, compute_mode="donot_use_mm_for_euclid_dist").square())
        q = w / w.sum(1, keepdim=True)
        q.backward(above[start : start + _BLOCK_ROWS].double())
        values.append(q.detach())
        g_z.append(part.grad)
    return torch.cat(values), (torch.cat(g_z), centers.grad)


def multiply_adds(rows: int, latent: int = LATENT, centers: int = CENTERS) -> dict[str, int]:
    """Per row and center. Forward: the distance (D). Backward: the distance again, as only the result is kept (D), and
    the slope times the difference into the row and into the center (2D). Divisions and O(1) arithmetic not counted."""
    return {"forward": rows * centers * latent, "backward": 3 * rows * centers * latent}


CASE = Case(
    operator="soft_assign",
    shape=f"D={LATENT}, K={CENTERS}, float32",
    names=("z", "centers"),
    inputs=inputs,
    call=ops.soft_assign,
    eager=eager,
    keops=None,
    exact=exact,
    multiply_adds=multiply_adds,
    dense_floats={"reference": 6, "eager": 6, "compile": 4},
    tolerance=1e-4,
    rows=(4096, 65_536, 1_000_000),
    columns=CENTERS,
    upstream=upstream,
)
