"""Rows written block by block, so that they never are in memory together; the file is whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deepclust_accel.atomic import replacing
from deepclust_accel.data.checking import chunks
from deepclust_accel.data.extras import require
from deepclust_accel.data.rows import Rows
from deepclust_accel.data.source import DataSource
from deepclust_accel.errors import DataError

__all__ = ["open_rows", "write_rows"]

_GROUP_BYTES = 4 << 20
_SHARD_BYTES = 256 << 20

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
            write(_as(block, dtype, path))

        yield put
        if count != rows:
            raise ValueError(f"{path}: expected {rows} rows, got {count}")


def write_rows(
    data: DataSource | np.ndarray,
    path: Path,
    *,
    shard_rows: int | None = None,
    shard_format: str = "npy",
    dtype: str | None = None,
) -> int:
    """Write all rows to a ``.npy`` or ``.parquet`` file, or as shards to a new folder of any other name.

    Args:
        data: A source, or labels (N,).
        shard_rows: Rows of a shard; 256 MiB where None.
        dtype: A float type; None for that of the source.

    Returns:
        Number of files written.

    Raises:
        DataError, OutputError: See ``open_rows``.
    """
    if isinstance(data, np.ndarray):
        with open_rows(path, len(data), data.shape[1:], data.dtype) as put:
            put(data)
        return 1
    stored = data.take(np.zeros(1, np.int64)).cpu().numpy()
    rows, shape, kind = data.spec.rows, data.spec.shape, np.dtype(dtype or stored.dtype)
    if path.suffix.lower() in (".npy", ".parquet"):
        with open_rows(path, rows, shape, kind) as put:
            for _, block in chunks(data):
                put(block)
        return 1
    each = shard_rows or max(1, _SHARD_BYTES // max(1, stored.size * kind.itemsize))
    with replacing(path) as folder:
        folder.mkdir()
        for number, first in enumerate(range(0, rows, each)):
            part = Rows(data, np.arange(first, min(first + each, rows)))
            with open_rows(folder / f"{number:06d}.{shard_format}", part.spec.rows, shape, kind) as put:
                for _, block in chunks(part):
                    put(block)
    return -(-rows // each)


def _as(block: np.ndarray, dtype: np.dtype, path: Path) -> np.ndarray:
    """The block in another type; DataError where that makes numbers infinite."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(block, dtype)
    narrower = block.dtype.kind == dtype.kind == "f" and dtype.itemsize < block.dtype.itemsize
    if narrower and np.isinf(cast).sum() > np.isinf(block).sum():
        raise DataError(f"{path}: expected values that {dtype} can hold, got larger ones; choose a wider type")
    return cast


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
    if len(shape) == 2:  # nothing is missing, which says that readers need not look for it
        value = pyarrow.list_(pyarrow.field("item", value, nullable=False), shape[1])
    schema = pyarrow.schema([pyarrow.field(name, value, nullable=False)])
    waiting: list[np.ndarray] = []

    def flush() -> None:
        flat = pyarrow.array(np.concatenate(waiting).reshape(-1))
        column = flat if len(shape) == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, type=value)
        writer.write_table(pyarrow.table([column], schema=schema))
        waiting.clear()

    def write(block: np.ndarray) -> None:
        if len(block):
            waiting.append(block)
        if sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            flush()

    with parquet.ParquetWriter(path, schema, use_dictionary=dtype.kind != "f") as writer:  # reals hardly repeat
        yield write
        if waiting:
            flush()
