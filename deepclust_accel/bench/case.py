"""What the bench has to know about one operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Inputs = tuple[Tensor, ...]
Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One operator at one shape, the ways others would compute it, and how much work it is.

    Args:
        operator: its name in `deepclust_accel.ops`.
        shape: the fixed sizes and the type, in words.
        names: of the inputs, for messages.
        inputs: rows -> inputs that require gradients, the same ones at every call.
        call: the public operator.
        eager: the same as a user would write it in dense PyTorch; also what torch.compile gets.
        keops: the same with KeOps' symbolic matrices; imports pykeops when called. None when it cannot be said so.
        exact: inputs -> value and gradients in float64, from the definition, without a rows x rows matrix.
        multiply_adds: rows -> the multiply-adds without which each phase cannot be done.
        dense_floats: provider -> floats it holds per pair (of rows, or of a row and a column) at its peak, forward +
            backward (measured).
        tolerance: largest relative L2 error of the value and of each gradient with which a provider is timed.
        rows: the sizes N to measure when none are asked for.
        columns: of the dense matrices of a user; None for as many as rows.
        upstream: rows -> the gradient that arrives from above at a result that is not a scalar, the same at every call.
        variant: what `name` adds to the operator's, where it is measured at a second shape.
    """

    operator: str
    shape: str
    names: tuple[str, ...]
    inputs: Callable[[int], Inputs]
    call: Call
    eager: Call
    keops: Call | None
    exact: Callable[[Inputs], tuple[float | Tensor, Inputs]]
    multiply_adds: Callable[[int], dict[str, int]]
    dense_floats: dict[str, float]
    tolerance: float
    rows: tuple[int, ...] = (300, 1024, 4096, 8192)
    columns: int | None = None
    upstream: Callable[[int], Tensor] | None = None
    variant: str = ""

    @property
    def name(self) -> str:
        """What users and records call the case."""
        return self.operator + self.variant

    def gradient_from_above(self, rows: int) -> Tensor | None:
        """What the backward of a result of this size starts from; None for a scalar."""
        return None if self.upstream is None else self.upstream(rows)

    def dense_bytes(self, provider: str, rows: int) -> int:
        """Bytes of the rows x rows, or rows x columns, float32 matrices that a provider holds at its peak."""
        return int(self.dense_floats.get(provider, 0.0) * 4 * rows * (self.columns or rows))
