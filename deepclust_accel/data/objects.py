"""Rows that Python objects hand out: torch Datasets by number, and batches of any iterable, kept in a file on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepclust_accel.data.source import ArraySource, DataSpec, check_dtype, check_shape
from deepclust_accel.data.writing import open_rows
from deepclust_accel.errors import DataError

__all__ = ["DatasetSource", "from_batches"]


class DatasetSource:
    """Rows of an object with ``len`` and ``[number]``, such as a torch Dataset.

    An item is a row (array, tensor or number) or a tuple whose first entry is one; what else is in the tuple is not used.

    Raises:
        DataError: No items, items that are no rows of numbers, or (when it is read) an item of another shape or dtype than
            the first.
    """

    def __init__(self, dataset: Any, name: str = "data"):
        self._dataset, self._name = dataset, name
        if len(dataset) == 0:
            raise DataError(f"{name}: expected at least one row, got an empty dataset; check how it was made")
        first = _row(dataset[0])
        check_dtype(first.dtype, name)
        check_shape((len(dataset), *first.shape), name)
        self._dtype = first.dtype
        self.spec = DataSpec(first.shape, len(dataset))

    def take(self, index: np.ndarray) -> Tensor:
        """Ask for items ``index`` (B,) int64 one by one; a new (B, *shape) tensor of the dtype of the first item."""
        out = np.empty((len(index), *self.spec.shape), self._dtype)
        for place, number in enumerate(index.tolist()):
            row = _row(self._dataset[number])
            if row.shape != self.spec.shape or row.dtype != self._dtype:
                raise DataError(
                    f"{self._name}: expected rows of shape {self.spec.shape} and {self._dtype}, as the first, got "
                    f"{row.shape} and {row.dtype} as item {number}; make all items alike"
                )
            out[place] = row
        return ArraySource(out).take(np.arange(len(out))) if len(out) else torch.from_numpy(out)


def from_batches(batches: Iterable[Any], path: str | Path | None = None) -> ArraySource:
    """Write the batches of an iterable (a DataLoader, a generator) to disk once, and map the file.

    So a stream that can be read but once, of any length, serves all epochs, in any order, with the memory of a batch.

    Args:
        batches: Each an array or tensor (n, *shape), or a tuple whose first entry is one.
        path: A new ``.npy`` file to keep; None for a nameless file in the system's folder for such (``TMPDIR``), which is
            gone with the source.

    Raises:
        DataError: No rows, or a batch of another shape or dtype than the first.
        OutputError: The disk refuses.
    """
    with tempfile.TemporaryFile() as spool:
        rows, shape, dtype = 0, (), None
        for batch in batches:
            part = _row(batch)
            if dtype is None:
                shape, dtype = part.shape[1:], part.dtype
                check_dtype(dtype, "batches")
            if part.ndim < 2 or part.shape[1:] != shape or part.dtype != dtype:
                raise DataError(
                    f"batches: expected rows of shape {shape} and {dtype}, as the first, got an array {part.shape} of "
                    f"{part.dtype} after {rows} rows; make all batches alike"
                )
            spool.write(np.ascontiguousarray(part).data)
            rows += len(part)
        if not rows:
            raise DataError("batches: expected at least one row, got none; is the iterable spent?")
        spool.flush()
        if path is None:
            return ArraySource(np.memmap(spool, dtype, "r", shape=(rows, *shape)))
        mapped = np.memmap(spool, dtype, "r", shape=(rows, *shape))
        with open_rows(Path(path), rows, shape, dtype) as put:
            put(mapped)
    return ArraySource(np.load(path, mmap_mode="r", allow_pickle=False))


def _row(item: Any) -> np.ndarray:
    if isinstance(item, (tuple, list)) and item:
        item = item[0]
    return item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
