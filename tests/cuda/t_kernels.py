"""The CUDA kernels of t_similarity under test: cases of the operator's own table for their driver, in float64."""

import functools

import numpy as np
import torch
from cuda_running import Case, Hot, Kernel
from cuda_sass import Shape
from t_cases import CASES, KINDS
from t_cases import Case as Similar

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
    return Case(name, dtype, [*numbers, int(transposed)], [*arrays, np.array([grad])], want, tolerance, [])


@functools.cache
def every():
    table = [similarity(case, dtype) for case in CASES for dtype in TYPES if case.n < 1000]
    kinds = [Similar(70, 12, 3, 4.0, 2.0, *kind) for kind in KINDS]
    table += [similarity(case, dtype, needs=needs, grad=3.0) for case in kinds for dtype in TYPES for needs in range(4)]
    return [*table, *(similarity(case, dtype, transposed=True) for case in kinds for dtype in TYPES)]


@functools.cache
def few():
    """Every kernel of both types, one and several parts and chunks, whole and ragged tiles."""
    table = [Similar(65, 7, 5, 3.0, dof, *kind) for dof in (1.0, 4.0) for kind in KINDS]
    table += [Similar(34, 12, 29, 3.0, 1.0, *kind) for kind in KINDS[1::2]]
    table += [Similar(1), Similar(600, 2, 3), Similar(2, 1, 1, shift=1e3)]
    return [similarity(case, dtype) for case in table for dtype in TYPES]


@functools.cache
def small():
    """For ThreadSanitizer: 22 features are two parts, 34 rows of double two tiles."""
    return [similarity(Similar(34, 11, 11, 3.0, 1.0, "rows", False), np.float64)]


# DCFAE with an embedding of 10 or 50 features.
HOT = [
    Hot("loss_kernelIfLb1E", Shape(32, 10, 0, reciprocals=2), 0.59, at="10 features each"),
    Hot("loss_kernelIfLb1E", Shape(32, 50, 0, reciprocals=2), 0.60, at="50 features each"),
    Hot("pull_kernelIfLi10ELb0E", Shape(32, 10, 0, reciprocals=2), 0.58, at="10 features each"),
    Hot("pull_kernelIfLi25ELb0E", Shape(32, 50, 0, reciprocals=2), 0.60, at="50 features each"),
    Hot("pull_kernelIfLi25ELb1E", Shape(32, 50, 0, reciprocals=2), 0.60, at="50 features each"),
    Hot("nearest_kernelIfE", None, 0.60),
    Hot("loss_kernelIdLb1E", None, 0.50, "fp64"),
    Hot("pull_kernelIdLi25ELb0E", None, 0.50, "fp64"),
]

T_KERNEL = Kernel("t_similarity", every, few, small, HOT)
