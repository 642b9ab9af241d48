"""The CUDA kernels over rows and centers under test: cases for their drivers, with what must come out, in float64."""

import functools

import numpy as np
import torch
from center_cases import Case as Sizes
from center_cases import dense_assign, dense_posterior, value_and_pullback
from cuda_running import Case, Hot, Kernel

from deepclust_accel.testing.ops import TOLERANCE

TYPES = {np.float32: torch.float32, np.float64: torch.float64}
ALL = (Sizes(1, 1, 1), Sizes(5, 3, 2), Sizes(70, 33, 10), Sizes(130, 10, 33), Sizes(1100, 4, 3), Sizes(65, 100, 70))
FEW = (Sizes(1, 1, 1), Sizes(9, 33, 2), Sizes(6, 3, 33), Sizes(1100, 2, 3), Sizes(33, 40, 3, shift=1e3))
SMALL = (Sizes(5, 33, 3),)


def _differentiable(name, dense, inputs_of, sizes, dtype, needs, transposed, more=()):
    inputs, upstream = inputs_of(sizes, TYPES[dtype]), sizes.upstream(TYPES[dtype])
    value, *gradients = value_and_pullback(dense, [x.double() for x in inputs], upstream.double())
    wanted = [needs & 1, *[needs & 2] * (len(inputs) - 1)]
    want = [value, *(g if need else g[:0] for g, need in zip(gradients, wanted, strict=True))]
    arrays = [(x.T if transposed and x.dim() == 2 else x).numpy() for x in inputs]
    numbers = [sizes.n, sizes.k, sizes.d, needs, int(transposed), *more]
    label = (
        f"{name}-{sizes}-{dtype.__name__}-needs{needs}" + "-transposed" * transposed + "".join(f"-{m}" for m in more)
    )
    return Case(
        label, dtype, numbers, [*arrays, upstream.numpy()], [w.numpy() for w in want], TOLERANCE[TYPES[dtype]], []
    )


def assign(sizes, dtype, needs=3, transposed=False, twice_dof=2):
    dense = functools.partial(dense_assign, dof=twice_dof / 2)
    return _differentiable("assign", dense, Sizes.rows, sizes, dtype, needs, transposed, (twice_dof,))


def posterior(sizes, dtype, needs=3, transposed=False):
    return _differentiable("posterior", dense_posterior, Sizes.mixture, sizes, dtype, needs, transposed)


def nearest(sizes, dtype):
    x, centers = sizes.rows(TYPES[dtype])
    distance, index = (x.double()[:, None] - centers.double()).square().sum(2).min(1)
    numbers, want = [sizes.n, sizes.k, sizes.d], [index.double().numpy(), distance.numpy()]
    return Case(f"nearest-{sizes}-{dtype.__name__}", dtype, numbers, [x.numpy(), centers.numpy()], want, 1e-5, [])


def sums(sizes, dtype):
    """Small integers, so that sums are exact in float32; some indices name no center."""
    x, index = sizes.rows()[0].mul(4).round().double(), torch.arange(sizes.n) * 7 % (sizes.k + 2) - 1
    there = (index >= 0) & (index < sizes.k)
    want = torch.zeros(sizes.k, sizes.d, dtype=torch.float64).index_add_(0, index[there], x[there])
    counts = torch.bincount(index[there], minlength=sizes.k).double()
    numbers, arrays = [sizes.n, sizes.k, sizes.d], [x.numpy(), index.numpy()]
    return Case(f"sums-{sizes}-{dtype.__name__}", dtype, numbers, arrays, [want.numpy(), counts.numpy()], 0.0, [])


def _table(make, table):
    return lambda: [make(sizes, dtype) for sizes in table for dtype in TYPES]


def _with_options(make, table, **options):
    def cases():
        extra = [make(Sizes(40, 5, 3), dtype, needs=needs) for dtype in TYPES for needs in range(3)]
        turned = [make(Sizes(40, 5, 3), dtype, transposed=True) for dtype in TYPES]
        other = [make(Sizes(40, 35, 3), dtype, **options) for dtype in TYPES] if options else []
        return [*_table(make, table)(), *extra, *turned, *other]

    return cases


def _hot(*kernels):
    """Their share is that of the loop over features or rows, which reads its numbers from the cache: loads and their
    addresses take most of the slots."""
    return [Hot(f"{name}IfE", None, share) for name, share in kernels]


CENTER_KERNELS = [
    Kernel(
        "soft_assign",
        _with_options(assign, ALL, twice_dof=7),
        _with_options(assign, FEW, twice_dof=7),
        _table(assign, SMALL),
        _hot(("assign_kernel", 0.1), ("slopes_kernel", 0.1), ("row_gradient_kernel", 0.1), ("center_sums_kernel", 0.1)),
    ),
    Kernel(
        "mixture_posterior",
        _with_options(posterior, ALL),
        _with_options(posterior, FEW),
        _table(posterior, SMALL),
        _hot(("posterior_kernel", 0.1), ("row_gradient_kernel", 0.1), ("moments_kernel", 0.1)),
    ),
    Kernel(
        "nearest_center",
        _table(nearest, ALL),
        _table(nearest, FEW),
        _table(nearest, SMALL),
        _hot(("nearest_kernel", 0.1)),
    ),
    Kernel("center_sums", _table(sums, ALL), _table(sums, FEW), _table(sums, SMALL), _hot(("segments_kernel", 0.0))),
]
