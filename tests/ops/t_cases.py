"""Inputs for the tests of t_similarity: one table, and the loss as a user would write it."""

import math
from dataclasses import dataclass
from functools import partial

import torch

from deepclust_accel.ops import t_similarity


def dense(z, e, *, dof_z, dof_e, normalization, include_diagonal):
    """The loss in a few dense lines, in the product form everybody writes: what the kernel must not be worse than."""

    def log_similarity(u, dof):
        square = (u * u).sum(1)
        d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
        log = -(dof + 1) / 2 * torch.log1p(d / dof)
        return log if include_diagonal else log.masked_fill(torch.eye(len(u), dtype=torch.bool), -math.inf)

    log_p, log_q = log_similarity(z, dof_z), log_similarity(e, dof_e)
    if normalization == "rows":
        p, log_q = log_p.softmax(1), log_q.log_softmax(1)
    else:
        p, log_q = log_p.flatten().softmax(0), log_q.flatten().log_softmax(0)
    return -(p * log_q.masked_fill(log_q == -math.inf, 0)).sum()


@dataclass(frozen=True)
class Case:
    n: int
    d: int = 10
    width: int = 10
    dof_z: float = 20.0
    dof_e: float = 1.0
    normalization: str = "global"
    diagonal: bool = True
    scale: float = 1.0
    shift: float = 0.0

    def __str__(self):
        kind = f"{self.normalization}{'' if self.diagonal else '-without'}"
        return (
            f"n{self.n}-d{self.d}-e{self.width}-dof{self.dof_z:g},{self.dof_e:g}-{kind}-{self.scale:g}+{self.shift:g}"
        )

    @property
    def options(self):
        return {
            "dof_z": self.dof_z,
            "dof_e": self.dof_e,
            "normalization": self.normalization,
            "include_diagonal": self.diagonal,
        }

    @property
    def call(self):
        return partial(t_similarity, **self.options)

    @property
    def rival(self):
        return partial(dense, **self.options)

    def inputs(self, dtype, device="cpu"):
        """z, e; exact in float32, so that every type sees the same numbers."""
        g = torch.Generator().manual_seed(self.n * 31 + self.d * 7 + self.width)
        z = torch.randn(self.n, self.d, generator=g) * self.scale + self.shift
        e = torch.randn(self.n, self.width, generator=g) * self.scale * 2 - self.shift
        return z.to(device, dtype), e.to(device, dtype)


KINDS = [("global", True), ("global", False), ("rows", True), ("rows", False)]
CASES = [
    *(Case(n, scale=s) for n in (1, 2, 63, 64, 65, 300, 1000) for s in (0.1, 1.0, 3.0)),
    *(Case(n, 7, 5, 3.0, b, *kind) for n in (2, 3, 64, 67, 300) for b in (1.0, 4.0) for kind in KINDS),
    *(Case(130, 50, 50, 100.0, 1.0, *kind, scale=s) for kind in KINDS for s in (0.1, 1.0)),
    *(Case(67, d, e) for d, e in ((1, 1), (1, 17), (3, 7), (17, 1), (33, 40))),
    *(Case(n, 7, 5, 14.0, 1.0, *kind, shift=1e3) for n in (2, 65, 300) for kind in KINDS),
]
