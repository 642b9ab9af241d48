"""Rows written block by block, so that they never are in memory together; the file is whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deepclust_accel.data.extras import require
from deepclust_accel.errors import DataError
from deepclust_accel.files import replacing

__all__ = ["open_rows"]

_GROUP_BYTES = 4 << 20

Put = Callable[[np.ndarray], None]


@contextmanager
def open_rows(path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype | type, name: str = "x") -> Iterator[Put]:
    """Yield a function that appends blocks (n, *shape) to a new file of ``rows`` rows.

    A path ending in ``.parquet`` gets a column ``name`` of numbers, or of lists of fixed size for shape (D,); any other
    path is written as ``.npy``.

    Raises:
        OutputError: The disk refuses. DataError: pyarrow is missing, or rows with axes of their own go to Parquet.
    """
    dtype, count = np.dtype(dtype), 0
    form = _parquet if path.suffix.lower() == ".parquet" else _npy
    with replacing(path) as temporary, form(temporary, (rows, *shape), dtype, name) as write:

        def put(block: np.ndarray) -> None:
            nonlocal count
            count += len(block)
            write(np.ascontiguousarray(block, dtype))

        yield put
        if count != rows:
            raise ValueError(f"{path}: expected {rows} rows, got {count}")


@contextmanager
def _npy(path: Path, shape: tuple[int, ...], dtype: np.dtype, name: str) -> Iterator[Put]:
    # appended rather than mapped: on a full disk a write fails with an error, a page of a map kills the process
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda block: file.write(block.data)


@contextmanager
def _parquet(path: Path, shape: tuple[int, ...], dtype: np.dtype, name: str) -> Iterator[Put]:
    pyarrow = require("pyarrow", "parquet", "a .parquet file")
    parquet = require("pyarrow.parquet", "parquet", "a .parquet file")
    if len(shape) > 2:
        raise DataError(f"{path}: expected flat rows for Parquet, got rows of shape {shape[1:]}; write .npy instead")
    value = pyarrow.from_numpy_dtype(dtype)
    schema = pyarrow.schema([(name, value if len(shape) == 1 else pyarrow.list_(value, shape[1]))])
    waiting: list[np.ndarray] = []

    def flush() -> None:
        flat = pyarrow.array(np.concatenate(waiting).reshape(-1))
        column = flat if len(shape) == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, shape[1])
        writer.write_table(pyarrow.table([column], schema=schema))
        waiting.clear()

    def write(block: np.ndarray) -> None:
        if len(block):
            waiting.append(block)
        if sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            flush()

    with parquet.ParquetWriter(path, schema) as writer:
        yield write
        if waiting:
            flush()
