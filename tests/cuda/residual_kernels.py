"""The CUDA passes of residual_block under test, against the formulas in numpy."""

import numpy as np
import torch
from cuda_running import Case, Hot, Kernel

# Stored type: type of the driver's numbers, its number there, relative error of a result.
KINDS = {
    torch.float32: (np.float32, 0, 1e-6),
    torch.float64: (np.float64, 0, 1e-14),
    torch.bfloat16: (np.float32, 1, 4e-3),
    torch.float16: (np.float32, 2, 5e-4),
}


def passes(rows, columns, plane, kind=torch.float32, *, bias=True, skip=True, in_place=False):
    """Planes of one are channels last; contiguous images have planes of their pixels."""
    dtype, number, tolerance = KINDS[kind]
    g = torch.Generator().manual_seed(rows * 31 + columns * 7 + plane)

    def draw(*shape):
        return torch.randn(shape, generator=g).to(kind).double()

    shape = (rows, columns, plane)
    y, grad, result = draw(*shape), draw(*shape), draw(*shape).relu()
    biases, skips = draw(columns) if bias else draw(0), draw(*shape) if skip else draw(0)
    sum_ = y + (biases[None, :, None] if bias else 0) + (skips if skip else 0)
    passed = torch.where(result > 0, grad, 0)
    want = [sum_.relu(), passed, passed.sum((0, 2))]
    numbers = [*shape, number, int(in_place), int(bias), int(skip)]
    name = f"{rows}x{columns}x{plane}-{kind}" + "-bias" * bias + "-skip" * skip + "-in-place" * in_place
    arrays = [x.numpy() for x in (y, biases, skips, grad, result)]
    return Case(name, dtype, numbers, arrays, [x.numpy() for x in want], tolerance, [])


SHAPES = ((1, 1, 1), (3, 5, 7), (300, 33, 1), (2, 3, 9000), (700, 40, 16))


def every():
    table = [passes(*shape, kind, in_place=i % 2 == 1) for i, shape in enumerate(SHAPES) for kind in KINDS]
    table += [passes(6, 4, 9, kind, bias=b, skip=s) for kind in KINDS for b, s in ((1, 0), (0, 1), (0, 0))]
    return [*table, passes(17000, 3, 1), passes(0, 3, 4), passes(0, 3, 1)]


def few():
    shapes = ((5, 33, 1), (3, 5, 7), (8300, 2, 1), (2, 3, 8200))
    return [passes(*shape, kind) for shape in shapes for kind in KINDS] + [passes(4, 3, 2, bias=False, in_place=True)]


def small():
    return [passes(9, 2, 1), passes(3, 2, 100)]


# The passes wait for memory: their share of the peak of multiply-adds says nothing.
HOT = [
    Hot(f"{name}_kernelI{code}E", None, 0.0, threads=256)
    for name in ("tail", "gate_rows", "gate_planes")
    for code in ("f", "NS_4Bf16")
]
RESIDUAL_KERNEL = Kernel("residual_block", every, few, small, HOT)
