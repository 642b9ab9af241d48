"""SciPy's sparse matrices: kept sparse in memory, dense a batch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.data.blocks import BlockSource
from deepclust_accel.data.files import shown, translated

__all__ = ["SPARSE_KEYS", "open_sparse", "sparse_source"]

SPARSE_KEYS = {"format", "shape", "data"}  # what scipy.sparse.save_npz puts into an .npz of any layout


def sparse_source(matrix: Any, name: str = "data") -> BlockSource:
    """Rows of a SciPy sparse matrix or array (N, D); layouts other than CSR are converted once."""
    rows = matrix.tocsr()
    source = BlockSource([rows.shape[0]], rows.shape[1:], rows.dtype, lambda number: rows, window=1, name=name)
    source.read_ahead = 0  # it is in memory
    return source


def open_sparse(path: Path, name: str) -> BlockSource:
    """Read a matrix written by ``scipy.sparse.save_npz``.

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
    return sparse_source(matrix, name)
