"""Parquet, Arrow and CSV files as rows: numeric columns side by side, or one column of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.data.blocks import BlockSource, window_of
from deepclust_accel.data.csv import csv_header_lines
from deepclust_accel.data.extras import require
from deepclust_accel.data.paths import check_file, shown, translated
from deepclust_accel.errors import DataError, nearest

__all__ = ["open_table", "read_column"]

Block = tuple[int, Callable[[list[str]], Any]]  # rows, and: names of columns → a pyarrow Table of them

_CACHED = 1024  # rows
_LABEL_NAMES = ("label", "labels", "class", "target")


def open_table(paths: Sequence[Path], part: str, name: str) -> BlockSource:
    """Open files of one kind and schema, in the order given; a block is a row group, a record batch, or a CSV file.

    Args:
        part: ``a,b`` for these columns in this order, ``-a,-b`` for all others, empty for all. Columns of several numeric
            types become the smallest type that holds them all; a single column of lists of one length gives rows (D,).
        name: For messages.

    Columns of CSV are float64, like those of a single CSV file.

    Raises:
        DataError: Damage, another schema than that of the first file, columns that are missing, not numeric or (unless
            chosen) named like labels, null where there is no NaN, lists of different lengths.
    """
    blocks: list[Block] = []
    schema, chosen, first = None, [], paths[0]
    for path in paths:
        found, more = _opened(path)
        if schema is None:
            schema, chosen = found, _choose(found, part, name)
        for column in chosen:
            if found.get_field_index(column) < 0 or found.field(column).type != schema.field(column).type:
                got = "none" if found.get_field_index(column) < 0 else str(found.field(column).type)
                raise DataError(
                    f"{shown(path)}: expected a column {column!r} of {schema.field(column).type}, as in {first.name}, "
                    f"got {got}; write all files alike, or take it out of the folder"
                )
        blocks += [(rows, _within(path, load)) for rows, load in more]
    counts = [rows for rows, _ in blocks]
    nested = _list_type(schema.field(chosen[0]).type) if len(chosen) == 1 else None
    if nested is None:
        dtype, width = np.result_type(*(_dtype(schema.field(c).type) for c in chosen)), len(chosen)
    else:
        dtype, width = _dtype(nested), _list_width(blocks, schema.field(chosen[0]).type, chosen)
    starts = np.cumsum([0, *counts])

    def read(number: int) -> np.ndarray:
        table = blocks[number][1](chosen)
        if nested is not None:
            return _lists(table.column(0), width, f"{name}: column {chosen[0]!r}", int(starts[number]))
        columns = [_values(table.column(c), f"{name}: column {c!r}", int(starts[number])) for c in chosen]
        return _side_by_side(columns, np.empty((len(table), width), dtype))

    window = window_of(max(counts, default=0) * width * dtype.itemsize)
    return BlockSource(counts, (width,), dtype, read, window=window, name=name)


def _side_by_side(columns: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Fill ``rows`` (n, D) with D columns (n,), by pieces that stay in the cache: a row's end is near its beginning."""
    for first in range(0, len(rows), _CACHED):
        piece = slice(first, first + _CACHED)
        for i, column in enumerate(columns):
            rows[piece, i] = column[piece]
    return rows


def read_column(paths: Sequence[Path], column: str, name: str) -> np.ndarray:
    """(N,) the values of one column of all files, numbers or text; of CSV, numbers.

    Raises:
        DataError: Damage, no such column, a missing value.
    """
    parts: list[np.ndarray] = []
    for path in paths:
        found, blocks = _opened(path)
        if not column or found.names.count(column) != 1:
            raise DataError(
                f"{shown(path)}: expected one column to take, got {column!r} among {', '.join(found.names[:8])}"
                f"{nearest(column, found.names)}; name it, {name.partition('::')[0]}::label"
            )
        for _, load in blocks:
            values = _within(path, load)([column]).column(0)
            if values.null_count:
                raise DataError(f"{name}: expected a label in every row, got {values.null_count} missing; fill them")
            parts.append(np.array(values.to_pylist()))
    return np.concatenate([part for part in parts if len(part)] or parts)


def _opened(path: Path) -> tuple[Any, list[Block]]:
    check_file(path)
    require("pyarrow", "parquet", shown(path))
    opener = {".parquet": _parquet, ".csv": _csv}.get(path.suffix.lower(), _arrow)
    with _reading(path):
        return opener(path)


def _parquet(path: Path) -> tuple[Any, list[Block]]:
    parquet = require("pyarrow.parquet", "parquet", shown(path))
    whole = parquet.ParquetFile(path)
    metadata, schema = whole.metadata, whole.schema_arrow
    whole.close()

    def load(group: int, columns: list[str]) -> Any:
        with parquet.ParquetFile(path, metadata=metadata) as file:  # not held: a folder may have thousands
            return file.read_row_group(group, columns=columns).select(columns)

    return schema, [(metadata.row_group(g).num_rows, partial(load, g)) for g in range(metadata.num_row_groups)]


def _arrow(path: Path) -> tuple[Any, list[Block]]:
    pyarrow = require("pyarrow", "parquet", shown(path))
    mapped = pyarrow.memory_map(str(path))
    table = pyarrow.Table.from_batches
    try:
        reader = pyarrow.ipc.open_file(mapped)
    except pyarrow.ArrowInvalid:  # the stream format, as Hugging Face datasets have it
        mapped.seek(0)
        reader = pyarrow.ipc.open_stream(mapped)
        return reader.schema, [(len(batch), lambda c, b=batch: table([b]).select(c)) for batch in reader]
    numbers = range(reader.num_record_batches)
    blocks = [(len(reader.get_batch(i)), lambda c, i=i: table([reader.get_batch(i)]).select(c)) for i in numbers]
    return reader.schema, blocks


def _csv(path: Path) -> tuple[Any, list[Block]]:
    dataset, csv = (require(f"pyarrow.{m}", "parquet", shown(path)) for m in ("dataset", "csv"))
    float64 = require("pyarrow", "parquet", shown(path)).float64()
    headless = csv_header_lines(path, labels_allowed=True) == 0  # `_choose` knows which columns were asked for
    options = {"read_options": csv.ReadOptions(autogenerate_column_names=headless)}
    names = dataset.CsvFileFormat(**options).make_fragment(str(path), _disk()).physical_schema.names
    options["convert_options"] = csv.ConvertOptions(column_types=dict.fromkeys(names, float64))
    fragment = dataset.CsvFileFormat(**options).make_fragment(str(path), _disk())
    return fragment.physical_schema, [(fragment.count_rows(), lambda c: fragment.to_table(columns=c))]


def _disk() -> Any:
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


def _within(path: Path, load: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
    def inside(columns: list[str]) -> Any:
        with _reading(path):
            return load(columns)

    return inside


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with translated(shown(path), path.suffix):
        try:
            yield
        except ValueError as cause:
            if path.suffix.lower() != ".csv" or isinstance(cause, DataError):
                raise
            fault = " ".join(str(cause).split()).partition("Invalid: ")  # after the path, which is said already
            raise DataError(
                f"{shown(path)}: expected a table of numbers, got {(fault[2] or fault[0])[:160]}; mend it"
            ) from cause


def _choose(schema: Any, part: str, name: str) -> list[str]:
    """Names of the columns that ``part`` asks for; DataError where they cannot be rows."""
    wanted = [entry.strip() for entry in part.split(",")] if part else []
    left_out = {w[1:] for w in wanted if w.startswith("-") and w not in schema.names}
    if left_out and len(left_out) < len(wanted):
        raise DataError(f"{name}: expected columns to take or, each with '-', to leave out, got {part!r}; use one kind")
    for column in left_out or wanted:
        if schema.names.count(column) != 1:
            raise DataError(
                f"{name}: expected one column {column!r}, got {schema.names.count(column)} among "
                f"{', '.join(schema.names[:8])}{nearest(column, schema.names)}"
            )
    chosen = [c for c in schema.names if c not in left_out] if left_out or not wanted else wanted
    if len(set(chosen)) < len(chosen):
        raise DataError(f"{name}: expected columns of different names, got one name twice; rename them")
    how = f"name the columns, {name.partition('::')[0]}::a,b, or those to leave out, ::-c"
    labels = [c for c in chosen if c.lower() in _LABEL_NAMES]
    if labels and not part:
        raise DataError(f"{name}: expected values to cluster, got a column named {labels[0]!r}; {how}")
    if not chosen:
        raise DataError(f"{name}: expected at least one column, got none; {how}")
    for column in chosen:
        kind = schema.field(column).type
        inner = _list_type(kind)
        if inner is not None and len(chosen) > 1:
            raise DataError(f"{name}: expected numeric columns or one of lists, got lists beside others; {how}")
        if _dtype(kind if inner is None else inner) is None:
            raise DataError(f"{name}: expected numeric columns, got {column!r} of {kind}; {how}")
    return chosen


def _list_type(kind: Any) -> Any:
    """What the lists of a column hold; None for a column of anything else."""
    from pyarrow import types

    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if listed else None


def _dtype(kind: Any) -> np.dtype | None:
    from pyarrow import types

    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return np.dtype(kind.to_pandas_dtype()) if numeric else None


def _list_width(blocks: list[Block], kind: Any, chosen: list[str]) -> int:
    if hasattr(kind, "list_size"):
        return kind.list_size
    load = next((load for rows, load in blocks if rows), None)
    return 0 if load is None else len(load(chosen).column(0)[0].as_py() or ())


def _lists(column: Any, width: int, what: str, start: int) -> np.ndarray:
    """(n, width) from a column of lists; DataError for a list that is missing, shorter or longer."""
    from pyarrow import compute

    lengths = compute.fill_null(compute.list_value_length(column), -1).to_numpy()
    odd = np.flatnonzero(lengths != width)
    if len(odd):
        got = "nothing" if lengths[odd[0]] < 0 else str(lengths[odd[0]])
        raise DataError(f"{what}: expected lists of {width} numbers, got {got} in row {start + odd[0]}; mend that row")
    return _values(compute.list_flatten(column), what, start, width).reshape(-1, width)


def _values(column: Any, what: str, start: int, width: int = 1) -> np.ndarray:
    """Numbers of a column; a missing one is NaN among floats, and a DataError among integers."""
    dtype = _dtype(column.type)
    if column.null_count and dtype.kind != "f":
        row = start + int(np.flatnonzero(column.is_null().to_numpy())[0]) // width
        raise DataError(f"{what}: expected {dtype}, got a missing value in row {row}; fill or drop such rows")
    return column.to_numpy()
