"""Bringing columns to a common range, once fitted, for every batch alike.

The fitted numbers belong to the model: they are saved with it and applied again at predict. They are found in one
streamed pass in float64, so a memory map is never read whole into memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, ResumeError
from .source import DataSource, known_rows

KINDS = ("none", "unit", "standard")

_CHUNK_VALUES = 1 << 20  # 8 MiB of float64 at a time
_FLOAT32_MOST = torch.finfo(torch.float32).max
_FLOAT32_SAFE = 1e37  # below this a difference of two float32 numbers cannot overflow
# dtypes whose every value is exact in float32
_NARROW = {torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.uint16}


@dataclass(frozen=True, eq=False)
class Scaling:
    """``(x - center) / scale``, or nothing.

    Attributes:
        kind: "none"; "unit": one smallest and one largest value of all the data go to 0 and 1, so images keep their
            look; "standard": each column gets mean 0 and (population) standard deviation 1.
        center: float64, () for "unit", the shape of a row for "standard", None for "none".
        scale: Like center. Infinite where the fitted data were constant: such columns are 0, at predict too.
    """

    kind: str = "none"
    center: Tensor | None = None
    scale: Tensor | None = None
    _ready: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ArgumentError(f"scaling: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.kind == "none") != (self.center is None) or (self.center is None) != (self.scale is None):
            raise ArgumentError(f"scaling {self.kind!r}: expected the numbers of Scaling.fit, got none or too many")

    @classmethod
    def fit(cls, kind: str, source: DataSource) -> "Scaling":
        """Fit to all rows of ``source`` in one streamed pass (none for kind "none"); float64 throughout.

        Raises:
            ArgumentError: Unknown kind.
            DataError: A value is NaN, infinite or too large for float32.
        """
        if kind == "none":
            return cls()
        if kind not in KINDS:
            raise ArgumentError(f"scaling: expected one of {', '.join(KINDS)}, got {kind!r}")
        center, scale = _fit_unit(source) if kind == "unit" else _fit_standard(source)
        return cls(kind, center, scale)

    def apply(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Scale rows x (B, *shape) of any real dtype; the result has ``dtype``.

        Values that float32 cannot hold exactly (float64, int32, int64) are scaled in float64 and then rounded.
        The input is not changed; for kind "none" it is returned itself if it has ``dtype`` already.

        Raises:
            DataError: The rows have another shape than those fitted.
        """
        if self.kind == "none":
            return x.to(dtype)
        self.check_shape(tuple(x.shape[1:]))
        narrow = dtype == torch.float32 and x.dtype in _NARROW and self._fits_float32()
        work = torch.float32 if narrow else torch.float64
        high, low, scale = self._constants(work, x.device)
        x = x.to(work) - high
        if low is not None:
            x -= low
        return (x / scale).to(dtype)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse rows whose shape is not the fitted one.

        Raises:
            DataError: They differ.
        """
        if self.kind == "standard" and tuple(self.center.shape) != tuple(shape):
            expected = tuple(self.center.shape)
            raise DataError(
                f"data: expected rows of shape {expected}, as fitted, got {tuple(shape)}; use the same columns"
            )

    def state(self) -> dict[str, Tensor]:
        """The fitted numbers as tensors, for ``from_state``: "kind" (), and "center", "scale" unless "none"."""
        state = {"kind": torch.tensor(KINDS.index(self.kind))}
        if self.kind != "none":
            state |= {"center": self.center.clone(), "scale": self.scale.clone()}
        return state

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Scaling":
        """Rebuild from ``state()``.

        Raises:
            ResumeError: Entries are missing or make no sense.
        """
        try:
            kind = KINDS[int(state["kind"])]
            if kind == "none":
                return cls()
            center, scale = (state[key].detach().cpu().double() for key in ("center", "scale"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as cause:
            raise ResumeError(f"saved scaling: expected kind, center, scale, got {sorted(state)}; fit again") from cause
        if center.shape != scale.shape or not bool(center.isfinite().all()) or not bool((scale > 0).all()):
            raise ResumeError("saved scaling: expected finite centers and positive scales, got others; fit again")
        return cls(kind, center, scale)

    def _fits_float32(self) -> bool:
        if "fits" not in self._ready:
            finite = self.scale[self.scale.isfinite()]
            self._ready["fits"] = bool((self.center.abs() < _FLOAT32_SAFE).all() and (finite > 1 / _FLOAT32_SAFE).all())
        return self._ready["fits"]

    def _constants(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
        key = (dtype, device)
        if key not in self._ready:
            high = self.center.to(dtype)
            # a float32 center alone would shift columns of large mean and small spread; the remainder repairs that
            low = (self.center - high.double()).to(dtype)
            low = low.to(device) if bool(low.count_nonzero()) else None
            self._ready[key] = (high.to(device), low, self.scale.to(dtype).to(device))
        return self._ready[key]


def check_finite(source: DataSource) -> tuple[float, float]:
    """Refuse NaN, infinite values and values too large for float32; one streamed pass.

    Returns:
        The least and the largest value, as stored.

    Raises:
        DataError: Names the first such row and column, and how many values there are.
    """
    rows = known_rows(source)
    count, first = 0, None
    low, high = float("inf"), float("-inf")
    for start, chunk in _chunks(source, rows):
        # torch has no aminmax for uint16, uint32, uint64
        smallest, largest = (chunk if chunk.is_floating_point() else chunk.double()).aminmax()
        low, high = min(low, float(smallest)), max(high, float(largest))
        if max(abs(float(smallest)), abs(float(largest))) <= _FLOAT32_MOST:  # not of NaN, which both are where one is
            continue
        bad = ~chunk.to(torch.float32).isfinite()
        found = int(bad.count_nonzero())
        if found and first is None:
            row, *column = (int(i) for i in bad.nonzero()[0])
            first = (start + row, column[0] if len(column) == 1 else tuple(column), float(chunk[(row, *column)]))
        count += found
    if first is not None:
        row, column, value = first
        several = f"{count} values that are not, the first {value}" if count > 1 else f"{value}"
        raise DataError(
            f"data: expected finite float32 values, got {several} at row {row}, column {column}; "
            "fill or drop such values"
        )
    return low, high


def _chunks(source: DataSource, rows: int) -> Iterator[tuple[int, Tensor]]:
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(source.spec.shape))))
    for start in range(0, rows, step):
        yield start, source.take(np.arange(start, min(start + step, rows), dtype=np.int64)).cpu()


def _finite_chunks(source: DataSource, rows: int) -> Iterator[Tensor]:
    for _, chunk in _chunks(source, rows):
        if chunk.is_floating_point() and not bool(chunk.to(torch.float32).isfinite().all()):
            check_finite(source)  # raises, having counted all
        yield chunk.double()


def _fit_unit(source: DataSource) -> tuple[Tensor, Tensor]:
    low, high = float("inf"), float("-inf")
    for chunk in _finite_chunks(source, known_rows(source)):
        smallest, largest = chunk.aminmax()
        low, high = min(low, float(smallest)), max(high, float(largest))
    extent = high - low if high > low else float("inf")
    return torch.tensor(low, dtype=torch.float64), torch.tensor(extent, dtype=torch.float64)


def _fit_standard(source: DataSource) -> tuple[Tensor, Tensor]:
    count = 0
    for chunk in _finite_chunks(source, known_rows(source)):
        # Chan, Golub and LeVeque 1979: merge mean and squared deviations of chunks without cancellation
        added, chunk_mean = chunk.shape[0], chunk.mean(0)
        chunk_square = (chunk - chunk_mean).square_().sum(0)
        chunk_low, chunk_high = chunk.amin(0), chunk.amax(0)
        if count == 0:
            mean, square, low, high = chunk_mean, chunk_square, chunk_low, chunk_high
        else:
            shift = chunk_mean - mean
            mean = mean + shift * (added / (count + added))
            square = square + chunk_square + shift.square() * (count * added / (count + added))
            low, high = torch.minimum(low, chunk_low), torch.maximum(high, chunk_high)
        count += added
    # constant columns by their range, not their variance, which rounding may leave a little above zero
    constant = low == high
    mean = torch.where(constant, low, mean)
    deviation = (square / count).sqrt()
    return mean, torch.where(constant | (deviation == 0), torch.inf, deviation)
