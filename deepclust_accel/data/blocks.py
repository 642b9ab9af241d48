"""Rows that are stored in blocks (row groups, shards, chunks), of which some are held at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepclust_accel.data.source import Blocks, DataSpec, ahead_rows, batch_dtype, check_dtype, check_shape

__all__ = ["BlockSource", "window_of"]

_WINDOW_BYTES = 256 << 20


def window_of(block_bytes: int) -> int:
    """How many blocks of this size to hold: 256 MiB of them, and never fewer than two."""
    return max(2, _WINDOW_BYTES // max(1, block_bytes))


class BlockSource:
    """Rows read a block at a time; the last ``window`` blocks that were needed are held.

    Args:
        counts: Rows of each block.
        shape: Of a row.
        dtype: Of all blocks, as stored.
        read: Number of a block → its rows: (n, *shape) array or memory map, or a SciPy CSR matrix (n, D), which is made
            dense a batch at a time.
        window: See ``Blocks``. Where all blocks fit into it, ``blocks`` is None: epochs then mix all rows.
        name: What to call the data in messages.

    Cost: ``take`` reads each block it needs once, whatever the order of the numbers. It may be called from several threads.

    Raises:
        DataError: No rows, no columns, rank outside 2..4, or values that are not real numbers.
    """

    def __init__(
        self,
        counts: Sequence[int],
        shape: tuple[int, ...],
        dtype: np.dtype,
        read: Callable[[int], Any],
        *,
        window: int,
        name: str,
    ):
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        check_dtype(dtype, name)
        check_shape((int(starts[-1]), *shape), name)
        self.spec = DataSpec(tuple(int(n) for n in shape), int(starts[-1]))
        self.dtype, self._starts, self._read, self._window = batch_dtype(dtype), starts, read, window
        self.blocks = Blocks(starts, window) if len(counts) > window else None
        self.read_ahead = ahead_rows(int(np.prod(shape)) * self.dtype.itemsize)
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, index: np.ndarray) -> Tensor:
        """Copy rows ``index`` (B,) int64 into a new (B, *shape) tensor of the stored dtype.

        Raises:
            IndexError: A row that is not there.
        """
        if len(index) and not 0 <= index.min() <= index.max() < self._starts[-1]:
            raise IndexError(
                f"rows: expected numbers of 0 to {self._starts[-1] - 1}, got {index.min()} to {index.max()}"
            )
        place = np.searchsorted(self._starts, index, side="right") - 1
        order = np.argsort(place, kind="stable")
        within = (index - self._starts[place])[order]
        blocks, counts = np.unique(place, return_counts=True)
        ends = np.cumsum(counts)
        parts = zip(blocks.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
        found = np.empty((len(index), *self.spec.shape), self.dtype)  # in the order of the blocks
        with self._lock:
            # blocks at hand first: one that is read may push another out that is still needed
            for block, first, end in sorted(parts, key=lambda part: part[0] not in self._held):
                _copy(self._block(block), within[first:end], found[first:end])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return torch.from_numpy(np.take(found, back, axis=0))

    def _block(self, number: int) -> Any:
        if number in self._held:
            self._held.move_to_end(number)
        else:
            while len(self._held) >= self._window:
                self._held.popitem(last=False)
            self._held[number] = self._read(number)
        return self._held[number]


def _copy(rows: Any, index: np.ndarray, out: np.ndarray) -> None:
    """``out[:] = rows[index]``, of an array of the same type at half the time."""
    if isinstance(rows, np.ndarray) and rows.dtype == out.dtype:
        np.take(rows, index, axis=0, out=out, mode="clip")  # any other mode has a buffer between; no index is outside
    else:
        out[:] = rows[index].toarray() if hasattr(rows, "toarray") else rows[index]
