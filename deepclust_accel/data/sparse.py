"""SciPy's sparse matrices: kept sparse in memory, dense a batch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.data.arrays import npz_header, read_member
from deepclust_accel.data.blocks import BlockSource
from deepclust_accel.data.paths import shown, translated

__all__ = ["is_sparse", "open_sparse", "sparse_rows", "sparse_shape", "sparse_source"]

_KEYS = {"format", "shape", "data"}  # what scipy.sparse.save_npz puts into an .npz of any layout


def sparse_source(matrix: Any, name: str = "data") -> BlockSource:
    """Rows of a SciPy sparse matrix or array (N, D); layouts other than CSR are converted once."""
    rows = matrix.tocsr()
    source = BlockSource([rows.shape[0]], rows.shape[1:], rows.dtype, lambda number: rows, window=1, name=name)
    source.read_ahead = 0  # it is in memory
    return source


def is_sparse(path: Path) -> bool:
    """Whether an .npz was written by ``scipy.sparse.save_npz``; DataError where it is damaged."""
    if path.suffix.lower() != ".npz":
        return False
    names = npz_header(path)[0]
    return "X" not in names and set(names) >= _KEYS


def sparse_shape(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and bytes in memory of the matrix in a file, without reading its values."""
    _, (entries, *_), dtype = npz_header(path, "data")
    shape = tuple(int(n) for n in read_member(path, "shape"))
    return shape, dtype, entries * (dtype.itemsize + 8)


def open_sparse(path: Path, name: str) -> BlockSource:
    """The matrix of a file as rows; DataError as in :func:`sparse_rows`."""
    return sparse_source(sparse_rows(path), name)


def sparse_rows(path: Path) -> Any:
    """Read a matrix written by ``scipy.sparse.save_npz`` as CSR.

    Raises:
        DataError: A damaged file, or indices that point outside of the matrix.
    """
    from scipy.sparse import load_npz

    with translated(shown(path), ".npz"):
        matrix = load_npz(path).tocsr()
        if matrix.nnz and not 0 <= int(matrix.indices.min()) <= int(matrix.indices.max()) < matrix.shape[1]:
            raise ValueError("a column number outside of the matrix")
        if matrix.indptr[0] != 0 or (np.diff(matrix.indptr) < 0).any() or matrix.indptr[-1] > len(matrix.data):
            raise ValueError("row starts that do not ascend")
    return matrix
