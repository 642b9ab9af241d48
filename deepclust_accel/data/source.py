"""Rows by number: what every kind of input must offer, and the arrays that offer it.

A source hands out raw rows in the dtype they are stored in; the loader converts one batch at a time. That keeps a
memory map a map and uint8 pixels one byte each, however large the data.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

_AHEAD_BYTES = 64 << 20
_CACHED_BYTES = 1 << 30  # maps up to this size are taken to stay in memory, where a thread would only be in the way
_MIXED_BYTES = 4 << 30  # maps up to this size are shuffled as a whole
_BLOCK_BYTES, _WINDOW_BYTES = 1 << 20, 512 << 20  # larger ones as blocks, so that the disk is not asked for single rows


@dataclass(frozen=True)
class DataSpec:
    """What a method may know of the data before it sees any.

    Attributes:
        shape: Shape of one row, without the batch axis.
        rows: Number of rows; None for a stream of unknown length.
        unit_range: Every value is known to lie in [0, 1] once scaled.
        image_shape: (H, W), (H, W, C) or (C, H, W) where flat rows are known to be images; rows with 2 or 3 axes of
            their own are images as they are.
    """

    shape: tuple[int, ...]
    rows: int | None
    unit_range: bool = False
    image_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Batch:
    """Some rows, ready for a network.

    Attributes:
        x: (B, *shape) float32, scaled; owned by the batch, never a view of the stored data.
        index: (B,) int64, the global row number of each row of x.
        first, total: this rank's rows are the ones from ``first`` on of the ``total`` rows of all ranks' batches together.
        share: what the loss of these rows is to be multiplied by, so that the average over ranks is the mean over rows; 0
            where a rank only stands in, with a row of another.
    """

    x: Tensor
    index: Tensor
    first: int = 0
    total: int = 0
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Blocks:
    """How the rows of a source lie on disk, where reading one row costs reading those stored beside it.

    Attributes:
        starts: (n + 1,) int64, the number of the first row of each of n blocks, and N.
        window: Blocks that the source holds at a time. Epochs mix the rows of as many blocks, drawn at random.
    """

    starts: np.ndarray
    window: int


@runtime_checkable
class DataSource(Protocol):
    """Rows that can be read by number, in any order, any number of times.

    Two attributes may be there beside those named here. ``blocks``, a ``Blocks`` or None: single rows are slow to reach,
    so an epoch goes through windows of blocks. ``read_ahead``, a number of rows: reading takes long enough to let a thread
    read that many rows ahead of their use; ``take`` is then called from two threads.
    """

    spec: DataSpec

    def take(self, index: np.ndarray) -> Tensor:
        """Copy rows ``index`` (B,) int64 into a new (B, *shape) tensor of the stored dtype."""
        ...


class ArraySource:
    """Rows of a NumPy array, memory map or tensor of rank 2 to 4, whose first axis counts rows.

    The array is referred to, never copied; ``array`` is the object that was given (for bool: a uint8 view of it,
    for a tensor: detached), so a memory map stays one. ``take`` costs one gather of the asked rows. Maps of more than 4 GiB
    are shuffled in blocks of 1 MiB, 512 of which are mixed at a time.

    Raises:
        DataError: Rank outside 2..4, no rows, no columns, or values that are not real numbers.
    """

    def __init__(self, array: np.ndarray | Tensor, *, name: str = "data"):
        self.read_ahead, self.blocks = 0, None
        if isinstance(array, Tensor):
            self.array = _checked_tensor(array, name)
            self._rows = self.array
        elif isinstance(array, np.ndarray):
            self.array = _checked_array(array, name)
            # a plain view: indexing a memmap itself would wrap every batch in a memmap object
            self._rows = self.array.view(np.ndarray)
            if isinstance(array, np.memmap) and array.nbytes > _CACHED_BYTES:
                self.read_ahead = ahead_rows(array.nbytes // max(1, len(array)))
            if isinstance(array, np.memmap) and array.nbytes > _MIXED_BYTES:
                step = max(1, _BLOCK_BYTES * len(array) // array.nbytes)
                starts = np.append(np.arange(0, len(array), step), len(array))
                self.blocks = Blocks(starts, max(2, _WINDOW_BYTES // _BLOCK_BYTES))
        else:
            raise DataError(f"{name}: expected a NumPy array or a tensor, got {type(array).__name__}; convert it first")
        check_shape(tuple(self.array.shape), name)
        self.spec = DataSpec(tuple(int(n) for n in self.array.shape[1:]), int(self.array.shape[0]))

    def take(self, index: np.ndarray) -> Tensor:
        """Copy rows ``index`` (B,) int64 into a new (B, *shape) tensor of the stored dtype, on the array's device.

        Extended-precision floats become float64, since torch has no such dtype.
        """
        if isinstance(self._rows, Tensor):
            return self._rows.index_select(0, torch.from_numpy(index).to(self._rows.device))
        rows = self._rows[index]
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=batch_dtype(rows.dtype)))


def batch_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a batch of rows stored in ``dtype``: the same, as far as torch has it."""
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype == np.longdouble else dtype.newbyteorder("=")


def ahead_rows(row_bytes: int) -> int:
    """How many rows to read ahead: 64 MiB of them."""
    return max(1, _AHEAD_BYTES // max(1, row_bytes))


def known_rows(source: DataSource) -> int:
    """Number of rows of a source.

    Raises:
        DataError: It is unknown (a stream) or zero.
    """
    rows = source.spec.rows
    if rows is None:
        raise DataError("data: expected a known number of rows, got a stream; save it to a .npy file first")
    if rows < 1:
        raise DataError("data: expected at least one row, got none; check how it was selected")
    return rows


def _checked_array(array: np.ndarray, name: str) -> np.ndarray:
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"{name}: expected plain numbers, got a masked array; fill the masked values first")
    check_dtype(array.dtype, name)
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def check_dtype(dtype: np.dtype, name: str) -> None:
    """Refuse what is not a real number or a boolean.

    Raises:
        DataError: It is not.
    """
    kind = dtype.kind
    if kind in "buif":
        return
    what = {"O": "Python objects", "c": "complex numbers", "U": "text", "S": "text", "T": "text", "V": "records"}
    got = what.get(kind, "dates or times" if kind in "mM" else f"dtype {dtype}")
    raise DataError(f"{name}: expected real numbers, got {got} ({dtype}); convert to a numeric dtype first")


def _checked_tensor(array: Tensor, name: str) -> Tensor:
    if array.layout != torch.strided or array.is_quantized:
        raise DataError(f"{name}: expected a dense tensor, got layout {array.layout}; make it dense with .to_dense()")
    if array.is_complex():
        raise DataError(f"{name}: expected real numbers, got {array.dtype}; take real part or magnitude first")
    array = array.detach()
    return array.view(torch.uint8) if array.dtype == torch.bool else array


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse (N, ...) unless it has 2 to 4 axes, rows and columns.

    Raises:
        DataError: It has not.
    """
    if not 2 <= len(shape) <= 4:
        hint = "reshape one column to (rows, 1)" if len(shape) < 2 else "flatten each row"
        raise DataError(f"{name}: expected 2 to 4 dimensions, rows first, got shape {shape}; {hint}")
    if shape[0] == 0:
        raise DataError(f"{name}: expected at least one row, got shape {shape}; check how it was selected")
    if 0 in shape:
        raise DataError(f"{name}: expected at least one column, got shape {shape}; check how it was selected")
