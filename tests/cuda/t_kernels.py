"""The CUDA kernels of t_similarity under test: cases of the operator's own table for their driver, in float64."""

import functools

import numpy as np
import torch
from cuda_running import Case, Hot, Kernel
from cuda_sass import Shape
from t_cases import CASES, KINDS
from t_cases import Case as Similar

from deepclust_accel import ops
from deepclust_accel.ops import _t_shard as shard
from deepclust_accel.testing import ops as checks

TYPES = {np.float32: torch.float32, np.float64: torch.float64}


def similarity(case, dtype, *, needs=3, transposed=False, grad=1.0):
    """`needs`: 1 for z, 2 for e."""
    inputs = case.inputs(TYPES[dtype])
    loss, *gradients = checks.in_float64(case.call, inputs)
    want = [loss.numpy()] + [
        g.numpy() * grad if needs >> i & 1 else np.empty((0, g.shape[1])) for i, g in enumerate(gradients)
    ]
    dofs = [round(10 * case.dof_z), round(10 * case.dof_e)]
    numbers = [case.n, case.d, case.width, *dofs, int(case.normalization == "rows"), int(case.diagonal), needs]
    arrays = [(x.T if transposed else x).numpy() for x in inputs]
    name = f"{case}-{dtype.__name__}" + f"-needs{needs}" * (needs != 3) + "-transposed" * transposed
    tolerance = checks.TOLERANCE[TYPES[dtype]]
    return Case(name, dtype, [*numbers, int(transposed), 0, 0], [*arrays, np.array([grad])], want, tolerance)


def own(case, dtype, start, count, *, transposed=False):
    """What a process that owns `count` rows from `start` on computes: its nearest rows, and its sums and gradients from
    what is gathered."""
    n, rows = case.n, case.normalization == "rows"
    arrays = [x.T if transposed else x for x in case.inputs(torch.float64)]
    z, e = (x + by for x, by in zip(case.inputs(torch.float64), (-case.shift, case.shift), strict=True))  # exact
    dofs, shifts, shared = (case.dof_z, case.dof_e, rows), z.new_zeros(n, 2), z.new_zeros(2)
    with ops.backend("reference"):
        nearest = shard._nearest(z, e, *dofs, 0, n)
        if rows and not case.diagonal:
            shifts = nearest.to(TYPES[dtype]).double()
        elif not case.diagonal:
            shared = torch.stack([nearest[:, 0].amax(), nearest[:, 1].amax() * (case.dof_e != 1)]).to(TYPES[dtype])
        options = (*dofs, case.diagonal, *shared.tolist())
        sums = shard._sums(z, e, shifts, *options, 0, n)
        p, q, cross = sums.unbind(1) if rows else sums.sum(0).expand(n, 3).unbind(1)
        mean = cross / p if rows and not case.diagonal else cross / p / p
        numbers = torch.cat([shifts, torch.stack([mean, 1 / p, 1 / q], 1)], 1).to(TYPES[dtype]).double()
        pulls = shard._pull(z, e, numbers, *options, start, count)
    part = slice(start, start + count)
    want = [x.numpy() for x in (nearest[part], sums[part], *pulls)]
    arrays = [x.numpy() for x in (*arrays, shared, shifts, numbers)]
    given = [n, case.d, case.width, round(10 * case.dof_z), round(10 * case.dof_e), int(rows), int(case.diagonal), 0]
    name = f"{case}-{dtype.__name__}-own{start}+{count}" + "-transposed" * transposed
    return Case(name, dtype, [*given, int(transposed), start, count], arrays, want, checks.TOLERANCE[TYPES[dtype]])


# Counts around a tile of 32 doubles and 64 floats, starts inside of one, one row, the last row, all rows.
OWN = [(0, 130), (1, 65), (5, 64), (66, 63), (64, 64), (3, 33), (10, 32), (40, 31), (0, 1), (37, 1), (129, 1)]


@functools.cache
def every():
    table = [similarity(case, dtype) for case in CASES for dtype in TYPES if case.n < 1000]
    kinds = [Similar(70, 12, 3, 4.0, 2.0, *kind) for kind in KINDS]
    table += [similarity(case, dtype, needs=needs, grad=3.0) for case in kinds for dtype in TYPES for needs in range(4)]
    table += [similarity(case, dtype, transposed=True) for case in kinds for dtype in TYPES]
    table += [own(Similar(130, 7, 5, 3.0, 4.0, "rows", False), dtype, *rows) for rows in OWN for dtype in TYPES]
    table += [own(Similar(130, 7, 5, 3.0, 1.0), dtype, *rows) for rows in OWN for dtype in TYPES]
    kinds = [Similar(150, 12, 29, 4.0, dof, *kind) for dof in (1.0, 4.0) for kind in KINDS]
    kinds += [Similar(300, 7, 5, 14.0, 1.0, *kind, shift=1e3) for kind in KINDS]
    table += [own(case, dtype, 40, 70) for case in kinds for dtype in TYPES]
    return [*table, *(own(Similar(70, 5, 3), dtype, 13, 40, transposed=True) for dtype in TYPES)]


@functools.cache
def few():
    """Every kernel of both types, one and several parts and chunks, whole and ragged tiles."""
    table = [Similar(65, 7, 5, 3.0, dof, *kind) for dof in (1.0, 4.0) for kind in KINDS]
    table += [Similar(34, 12, 29, 3.0, 1.0, *kind) for kind in KINDS[1::2]]
    table += [Similar(1), Similar(600, 2, 3), Similar(2, 1, 1, shift=1e3)]
    kinds = [Similar(70, 12, 3, 3.0, dof, *kind) for dof, kind in zip((1.0, 4.0, 1.0, 4.0), KINDS, strict=True)]
    table = [similarity(case, dtype) for case in table for dtype in TYPES]
    return table + [own(case, dtype, 3, 64) for case in kinds for dtype in TYPES]


@functools.cache
def small():
    """For ThreadSanitizer: 22 features are two parts, 34 rows of double two tiles."""
    case = Similar(34, 11, 11, 3.0, 1.0, "rows", False)
    return [similarity(case, np.float64), own(case, np.float64, 1, 33)]


# DCFAE with an embedding of 10 or 50 features.
HOT = [
    Hot("loss_kernelIfLb1E", Shape(32, 10, 0, 20), 0.60, at="10 features each"),
    Hot("loss_kernelIfLb1E", Shape(32, 50, 0, 200), 0.60, at="50 features each"),
    Hot("pull_kernelIfLi10ELb0E", Shape(32, 10, 0, 35), 0.60, at="10 features each"),
    Hot("pull_kernelIfLi25ELb0E", Shape(32, 50, 0, 230), 0.60, at="50 features each"),
    Hot("pull_kernelIfLi25ELb1E", Shape(32, 50, 0, 230), 0.60, at="50 features each"),
    Hot("nearest_kernelIfE", None, 0.60),
    Hot("loss_kernelIdLb1E", None, 0.50, "fp64"),
    Hot("pull_kernelIdLi25ELb0E", None, 0.50, "fp64"),
]

T_KERNEL = Kernel("t_similarity", every, few, small, HOT)
