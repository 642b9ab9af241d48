"""A folder of ``.npy`` or ``.npz`` files as one source, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepclust_accel.data.arrays import npz_header, read_file
from deepclust_accel.data.blocks import BlockSource, window_of
from deepclust_accel.data.paths import shown
from deepclust_accel.data.sparse import is_sparse, sparse_rows, sparse_shape
from deepclust_accel.errors import DataError

__all__ = ["open_shards"]

_MAPS = 256  # memory maps held at a time; each takes a file handle


def open_shards(paths: Sequence[Path], part: str, name: str) -> BlockSource:
    """Open files of rows of one shape and dtype, each a block; ``.npy`` is memory-mapped, ``.npz`` (X, or a SciPy sparse
    matrix, which stays sparse) read whole.

    Up to 256 ``.npy`` files are open at once, and then epochs mix all rows as they do for one file.

    Raises:
        DataError: A damaged file, or one whose rows differ from those of the first.
    """
    if part:
        raise DataError(f"{name}: expected no column names, since arrays have none, got {part!r}; leave out '::{part}'")
    mapped = paths[0].suffix.lower() == ".npy"
    counts, sizes, shape, dtype = [], [], (), None
    for path in paths:
        found, stored, size = _shape_of(path)
        sizes.append(size)
        if dtype is None:
            shape, dtype = found[1:], stored
        if found[1:] != shape or stored != dtype:
            raise DataError(
                f"{shown(path)}: expected rows of shape {shape} and {dtype}, as in {paths[0].name}, got "
                f"{found[1:]} and {stored}; write all files alike, or take it out of the folder"
            )
        counts.append(found[0])
    window = _MAPS if mapped else window_of(max(sizes))

    def read(number: int) -> np.ndarray:
        rows = sparse_rows(paths[number]) if is_sparse(paths[number]) else read_file(paths[number])[0]
        if rows.shape != (counts[number], *shape):
            raise DataError(f"{shown(paths[number])}: expected the rows it had when opened, got others; run it again")
        return rows

    return BlockSource(counts, shape, dtype, read, window=window, name=name)


def _shape_of(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype, and bytes in memory."""
    size = None
    if path.suffix.lower() == ".npy":
        rows, _ = read_file(path)
        shape, dtype = rows.shape, rows.dtype
    elif is_sparse(path):
        shape, dtype, size = sparse_shape(path)
    else:
        names, shape, dtype = npz_header(path)
        if "X" not in names:
            raise DataError(
                f"{shown(path)}: expected an array named X, got {', '.join(names[:8]) or 'nothing'}; save with "
                "numpy.savez(path, X=rows)"
            )
    if len(shape) < 2:
        raise DataError(f"{shown(path)}: expected rows of at least one column, got shape {shape}; reshape to (rows, 1)")
    return shape, dtype.newbyteorder("="), int(np.prod(shape)) * dtype.itemsize if size is None else size
