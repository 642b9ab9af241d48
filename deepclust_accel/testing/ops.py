"""One call checks an operator against its reference in float64: value, gradients, strides, repeatability, opcheck.

Known answers are not its business: a misunderstanding that the operator and the reference share passes here, so every
operator also needs a few values that were computed some other way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel import ops

# Relative L2 error of values and of each gradient against float64.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 1e-2}
# A result may always be off by two roundings of its own type, whatever another implementation happens to hit.
ROUNDING = {torch.float32: 2.0**-22, torch.float64: 2.0**-50}


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors of the value and of the gradient of every input."""

    value: float
    gradients: tuple[float, ...]


def value_and_gradients(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The value, then the gradient of every input; the inputs are left alone."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = call(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def in_float64(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the operator's own reference gives in float64 on the CPU: value, then gradients."""
    with ops.backend("reference"):
        return value_and_gradients(call, [x.detach().double().cpu() for x in inputs])


def relative_error(got: Tensor, want: Tensor) -> float:
    """L2 norm of the difference over that of ``want``; the difference itself where ``want`` is zero to rounding."""
    difference, size = (got.double().cpu() - want).norm().item(), want.norm().item()
    return difference / size if size > 1e-12 else difference


def errors(call: Callable[..., Tensor], inputs: Sequence[Tensor], want: Sequence[Tensor]) -> Errors:
    """Errors of ``call`` on these inputs against value and gradients in float64."""
    value, *gradients = (relative_error(g, w) for g, w in zip(value_and_gradients(call, inputs), want, strict=True))
    return Errors(value, tuple(gradients))


def check_op(
    call: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    rival: Callable[..., Tensor] | None = None,
    tolerance: float | None = None,
    rounding: float | None = None,
) -> Errors:
    """Check a differentiable operator of tensors to a scalar; raises AssertionError with the numbers.

    Args:
        call: the public function, its options bound.
        inputs: tensors of one type; their values are cast to float64 for the reference.
        rival: another implementation in the same precision (a dense one in PyTorch); the operator must not be less
            accurate than it, beyond the rounding of a result.
        tolerance: of each relative error; by default that of the inputs' type in `TOLERANCE`.
        rounding: error that is no defect whatever the rival hits; by default that of the inputs' type in `ROUNDING`.

    Returns:
        The errors, for a table.
    """
    dtype = inputs[0].dtype
    limit = TOLERANCE[dtype] if tolerance is None else tolerance
    want = in_float64(call, inputs)
    found = errors(call, inputs, want)
    worst = max(found.value, *found.gradients)
    assert worst <= limit, f"relative error {worst:.1e}, allowed {limit:.1e}: {found}"
    if rival is not None:
        floor = ROUNDING[dtype] if rounding is None else rounding
        theirs = errors(rival, inputs, want)
        pairs = zip((found.value, *found.gradients), (theirs.value, *theirs.gradients), strict=True)
        assert all(ours <= max(other, floor) for ours, other in pairs), f"less accurate than a rival: {found}, {theirs}"
    check_repeatable(call, inputs)
    check_strides(call, inputs, limit)
    return found


def check_repeatable(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """Two runs give the same bits."""
    first, second = value_and_gradients(call, inputs), value_and_gradients(call, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "two runs differ"


def check_strides(call: Callable[..., Tensor], inputs: Sequence[Tensor], tolerance: float) -> None:
    """Transposed and strided inputs give the value of contiguous ones."""
    plain = call(*[x.contiguous() for x in inputs])
    strided = [torch.stack([x, x + 1], -1)[..., 0] for x in inputs]
    for views in ([x.T.contiguous().T for x in inputs], strided):
        assert relative_error(call(*views), plain) <= tolerance, "strides change the result"
