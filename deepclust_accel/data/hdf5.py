"""Arrays in HDF5 files, and the X of an AnnData file, read a few MiB at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.data.blocks import BlockSource, window_of
from deepclust_accel.data.extras import require
from deepclust_accel.data.paths import check_file, shown, translated
from deepclust_accel.data.source import check_dtype, check_shape
from deepclust_accel.errors import DataError, nearest

__all__ = ["open_h5ad", "open_hdf5"]

_BLOCK_BYTES = 4 << 20


def open_hdf5(path: Path, part: str, name: str) -> BlockSource:
    """Open one dataset of a file; ``part`` is its name, and may be left out where only one has rows and columns.

    Raises:
        DataError: A damaged file, no such dataset, or one that holds no rows of numbers.
    """
    with _open(path) as file:
        known: list[str] = []
        file.visititems(lambda key, item: known.append(key) if hasattr(item, "chunks") else None)
        if not part:
            tables = [key for key in known if file[key].ndim > 1]
            if len(tables) != 1:
                raise DataError(
                    f"{name}: expected one dataset with rows and columns, got {len(tables)} ({', '.join(tables[:8])}); "
                    f"name it, {shown(path)}::{tables[0] if tables else 'X'}"
                )
            part = tables[0]
        if part.strip("/") not in known:
            hint = nearest(part, known) or f"; one of {', '.join(known[:8]) or 'none at all'}"
            raise DataError(f"{name}: expected a dataset {part!r} in the file, got none of that name{hint}")
        return _dense(file[part], path, name)


def open_h5ad(path: Path, part: str, name: str) -> BlockSource:
    """Open X of an AnnData file, an array or a CSR matrix, which stays sparse until a batch; nothing else is read.

    Raises:
        DataError: A damaged file, no X, or X as CSC.
    """
    if part:
        raise DataError(f"{name}: expected no name, since X is what is read, got {part!r}; leave out '::{part}'")
    with _open(path) as file:
        if "X" not in file:
            raise DataError(
                f"{name}: expected an AnnData file with X, got {', '.join(file) or 'nothing'}; write it again"
            )
        if hasattr(file["X"], "chunks"):
            return _dense(file["X"], path, name)
        kind = file["X"].attrs.get("encoding-type", "an unknown kind")
        if kind != "csr_matrix":
            raise DataError(f"{name}: expected X as array or csr_matrix, got {kind}; convert it with adata.X.tocsr()")
        return _csr(file["X"], path, name)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The file, which stays open for the source made of it, unless there is an error."""
    h5py = require("h5py", "hdf5", shown(path))
    check_file(path)
    with translated(shown(path), path.suffix):
        file = h5py.File(path, "r")
        try:
            yield file
        except BaseException:
            file.close()
            raise


def _dense(data: Any, path: Path, name: str) -> BlockSource:
    check_dtype(data.dtype, name)
    check_shape(data.shape, name)
    row_bytes = max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize)
    chunk = data.chunks[0] if data.chunks else 1
    rows = -(-max(1, _BLOCK_BYTES // row_bytes) // chunk) * chunk  # whole chunks, since one is read whole

    def read(number: int) -> np.ndarray:
        with translated(shown(path), path.suffix):
            return data[number * rows : (number + 1) * rows]

    counts = _counts(data.shape[0], rows)
    return BlockSource(counts, data.shape[1:], data.dtype, read, window=window_of(rows * row_bytes), name=name)


def _csr(group: Any, path: Path, name: str) -> BlockSource:
    from scipy.sparse import csr_matrix

    shape, starts, values = tuple(map(int, group.attrs["shape"])), group["indptr"][:], group["data"]
    if len(starts) != shape[0] + 1 or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > len(values):
        raise ValueError("row starts that do not ascend")
    row_bytes = max(1, int(starts[-1]) * (values.dtype.itemsize + group["indices"].dtype.itemsize) // max(1, shape[0]))
    rows = max(1, _BLOCK_BYTES // row_bytes)

    def read(number: int) -> csr_matrix:
        ends = starts[number * rows : (number + 1) * rows + 1]
        with translated(shown(path), path.suffix):
            columns = group["indices"][ends[0] : ends[-1]]
            if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < shape[1]:
                raise ValueError("a column number outside of the matrix")
            return csr_matrix((values[ends[0] : ends[-1]], columns, ends - ends[0]), (len(ends) - 1, shape[1]))

    counts = _counts(shape[0], rows)
    return BlockSource(counts, shape[1:], values.dtype, read, window=window_of(rows * row_bytes), name=name)


def _counts(total: int, rows: int) -> list[int]:
    return [min(rows, total - start) for start in range(0, total, rows)]
