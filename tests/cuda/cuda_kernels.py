"""The CUDA kernels under test, one entry each: cases for its driver, with what must come out, in float64."""

import functools

import numpy as np
import torch
from center_kernels import CENTER_KERNELS
from cuda_running import Case, Hot, Kernel
from cuda_sass import Shape
from residual_kernels import RESIDUAL_KERNEL
from t_kernels import T_KERNEL
from wasserstein_cases import CASES as WASSERSTEIN_CASES
from wasserstein_cases import Case as WassersteinCase
from wasserstein_cases import dense

from deepclust_accel import ops
from deepclust_accel.ops import _wasserstein_shard as shard
from deepclust_accel.testing import ops as checks

TYPES = {np.float32: torch.float32, np.float64: torch.float64}


def wasserstein(case, dtype, *, rows=False, needs=7, transposed=False, grad=1.0, tolerance=None):
    """A case of the operator's own table for the driver. `needs`: 1 for mu, 2 for sigma, 4 for gamma."""
    inputs = case.inputs(TYPES[dtype])
    call = functools.partial(ops.wasserstein_similarity, normalization="rows" if rows else "pairs")
    loss, *gradients = checks.in_float64(call, inputs)
    want = [loss.numpy()] + [
        g.numpy() * grad if needs >> i & 1 else np.empty((0, g.shape[1])) for i, g in enumerate(gradients)
    ]
    rival = []
    if dtype == np.float32 and not rows and needs == 7 and grad == 1:
        theirs = checks.errors(dense, inputs, (loss, *gradients))
        rival = [theirs.value, *theirs.gradients]
    arrays = [(x.T if transposed else x).numpy() for x in inputs]
    numbers = [case.n, case.z, case.k, int(rows), needs, int(transposed), 0, 0]
    name = f"{case}-{dtype.__name__}" + "-rows" * rows + f"-needs{needs}" * (needs != 7) + "-transposed" * transposed
    return Case(
        name, dtype, numbers, [*arrays, np.array([grad])], want, tolerance or checks.TOLERANCE[TYPES[dtype]], rival
    )


def wasserstein_own(case, dtype, start, count, *, transposed=False):
    """What a process with `count` rows from `start` on computes: its sums, and its gradient from what is gathered."""
    mu, sigma, gamma = inputs = case.inputs(torch.float64)
    with ops.backend("reference"):
        sums, size = shard._sums(*inputs, 0, case.n), gamma.sum(0).clamp_min(shard.SMALLEST_CLUSTER)
        share = gamma @ (gamma.sum(0) / size) / sums[:, 0]
        share, size = (x.to(TYPES[dtype]).double() for x in (share, size))
        want = [sums[start : start + count], shard._pull(*inputs, share, size, start, count)]
    arrays = [(x.T if transposed else x).numpy() for x in inputs]
    numbers = [case.n, case.z, case.k, 0, 0, int(transposed), start, count]
    name = f"{case}-{dtype.__name__}-own{start}+{count}" + "-transposed" * transposed
    return Case(
        name, dtype, numbers, [*arrays, share.numpy(), size.numpy()], [x.numpy() for x in want],
        checks.TOLERANCE[TYPES[dtype]],
    )  # fmt: skip


# Counts around a tile of 32 doubles and 64 floats, starts inside of one, one row, the last row, all rows.
OWN = [(0, 130), (1, 65), (5, 64), (66, 63), (64, 64), (3, 33), (10, 32), (40, 31), (0, 1), (37, 1), (129, 1)]


@functools.cache
def wasserstein_all():
    table = [wasserstein(case, dtype) for case in WASSERSTEIN_CASES for dtype in TYPES if case.n < 1000]
    # Rows a hundredth apart around centers ten apart: what is summed cancels to a thousandth. The CPU kernel has 1.4e-5
    # there, a dense float32 program 1e-1.
    close = [WassersteinCase(n, 10, 10, scale, spread=0.01) for n in (130, 600) for scale in (1.0, 10.0)]
    table += [wasserstein(case, np.float32, tolerance=3e-5) for case in close]
    middle = WassersteinCase(130, 11, 23)  # 22 features: two chunks of paired features, and of contracted ones
    table += [wasserstein(middle, dtype, rows=True, needs=needs, grad=3.0) for dtype in TYPES for needs in range(7)]
    table += [wasserstein(WassersteinCase(70, 5, 3), dtype, transposed=True) for dtype in TYPES]
    table += [wasserstein_own(WassersteinCase(130, 7, 5), dtype, *own) for own in OWN for dtype in TYPES]
    table += [wasserstein_own(WassersteinCase(70, 5, 3), dtype, 13, 40, transposed=True) for dtype in TYPES]
    others = [(WassersteinCase(600, 2, 3), 70, 130), (WassersteinCase(150, 11, 23), 40, 70)]
    others += [(WassersteinCase(300, 7, 5, shift=1e3), 70, 100), (WassersteinCase(130, 5, 6, empty=True), 9, 70)]
    return [*table, *(wasserstein_own(case, dtype, *rows) for case, *rows in others for dtype in TYPES)]


@functools.cache
def wasserstein_few():
    """Every kernel of both types, one and several parts and chunks, whole and ragged tiles."""
    sizes = ((70, 2, 3), (150, 11, 23), (128, 5, 10), (64, 10, 4), (1, 1, 1), (600, 2, 3))
    table = [wasserstein(WassersteinCase(*size), dtype) for size in sizes for dtype in TYPES]
    own = [
        (WassersteinCase(150, 11, 23), 40, 70),
        (WassersteinCase(66, 2, 3), 65, 1),
        (WassersteinCase(70, 5, 10), 3, 64),
    ]
    table += [wasserstein_own(case, dtype, *rows) for case, *rows in own for dtype in TYPES]
    return [*table, wasserstein(WassersteinCase(65, 7, 5, shift=1e3), np.float32)]


@functools.cache
def wasserstein_small():
    """For ThreadSanitizer: 21 paired features are two parts, 66 rows two tiles."""
    return [
        wasserstein(WassersteinCase(66, 9, 3), np.float32, needs=1),
        wasserstein(WassersteinCase(34, 2, 3), np.float64),
        wasserstein_own(WassersteinCase(34, 2, 3), np.float64, 1, 33),
    ]


# DVAE as published: latent 10, so 20 features, and 10 clusters; and a small one.
WASSERSTEIN_HOT = [
    Hot("loss_kernelIfLi10E", Shape(32, 20, 0, 30), 0.60),
    Hot("pull_kernelIfLi20E", Shape(32, 20, 10, 81), 0.60),
    Hot("loss_kernelIfLi4E", Shape(32, 4, 0, 8), 0.50),
    Hot("pull_kernelIfLi4E", Shape(32, 4, 4, 13), 0.50),
    Hot("loss_kernelIdLi10E", Shape(8, 20, 0, 30), 0.50, "fp64"),
    Hot("pull_kernelIdLi20E", Shape(8, 20, 10, 81), 0.50, "fp64"),
]

KERNELS = [
    Kernel("wasserstein_similarity", wasserstein_all, wasserstein_few, wasserstein_small, WASSERSTEIN_HOT),
    T_KERNEL,
    RESIDUAL_KERNEL,
    *CENTER_KERNELS,
]
