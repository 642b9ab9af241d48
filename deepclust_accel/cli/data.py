"""``dcaccel data``: what rows are, what is wrong with them, and another format for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deepclust_accel.cli.output import Debug, Json, emit, table
from deepclust_accel.errors import ArgumentError, OutputError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at rows, check them, convert them.")

Rows = Annotated[str, typer.Argument(help="Rows: file, folder or name of a data set, as for 'dcaccel fit'.")]


@app.command("info")
def info(data: Rows, as_json: Json = False, debug: Debug = False) -> None:
    """Say what DATA is, without looking at its values: shape, dtype, size, blocks, how epochs mix its rows."""
    from deepclust_accel.data import open_data
    from deepclust_accel.data.checking import describe_source

    opened = open_data(data)
    content = describe_source(opened.source) | opened.origin | {"labels": opened.labels is not None}
    emit("data.info", content, as_json, table(("data", data), list(content.items())))


@app.command("check")
def check(data: Rows, as_json: Json = False, debug: Debug = False) -> None:
    """Look at all values: NaN, infinity, constant and equal columns, and which scaling suits them; exit 1 if unfit."""
    from deepclust_accel.data import open_data
    from deepclust_accel.data.checking import check_rows, describe_source

    source = open_data(data).source
    found = check_rows(source)
    emit("data.check", describe_source(source) | found, as_json, _text(found))
    if not found["healthy"]:
        raise typer.Exit(1)


@app.command("convert")
def convert(
    data: Rows,
    out: Annotated[Path, typer.Argument(help="A new .npy or .parquet file, or (any other name) a folder of shards.")],
    shard_rows: Annotated[int | None, typer.Option("--shard-rows", help="Rows of a shard [default: 256 MiB].")] = None,
    shard_format: Annotated[str, typer.Option("--format", help="Of the shards: npy or parquet.")] = "npy",
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float16, float32 or float64 [default: as stored].")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write DATA in another format, some MiB at a time; known labels go to a file beside it, NAME-labels.npy."""
    from deepclust_accel.data import open_data
    from deepclust_accel.data.writing import write_rows

    if dtype not in (None, "float16", "float32", "float64"):
        raise ArgumentError(f"--dtype: expected float16, float32 or float64, got {dtype!r}; choose one or leave it out")
    if shard_format not in ("npy", "parquet"):
        raise ArgumentError(f"--format: expected npy or parquet, got {shard_format!r}; choose one")
    if shard_rows is not None and shard_rows < 1:
        raise ArgumentError(f"--shard-rows: expected a whole number of at least 1, got {shard_rows}; choose another")
    opened = open_data(data)
    labels = None if opened.labels is None else out.with_name(f"{out.stem}-labels.npy")
    for path in (out, labels):
        if path is not None and path.exists():
            raise OutputError(f"{path}: expected a new name, got one that exists; choose another")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out}: expected a place in an existing folder, got none; make the folder first")
    files = write_rows(opened.source, out, shard_rows=shard_rows, shard_format=shard_format, dtype=dtype)
    if labels is not None:
        write_rows(opened.labels, labels)
    rows = opened.source.spec.rows
    content = {"rows": rows, "files": files, "out": str(out), "labels": None if labels is None else str(labels)}
    beside = "" if labels is None else f", labels in {labels}"
    emit("data.convert", content, as_json, f"{rows} rows in {out} ({files} file{'s' * (files > 1)}){beside}")


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{name.replace('_', ' ')}: {fault['count']}, first in row {fault['row']}, column {fault['column']}"
        for name, fault in ((name, found[name]) for name in ("nan", "infinite", "too_large"))
        if fault["count"]
    ] or ["all values are finite"]
    lines.append(f"values from {found['low']} to {found['high']}")
    for name, what in (("constant", "constant columns"), ("duplicates", "columns equal to an earlier one")):
        entry = found[name]
        shown = ", ".join(f"{c[0]} = {c[1]}" if isinstance(c, list) else str(c) for c in entry["columns"])
        more = ", …" if entry["count"] > len(entry["columns"]) else ""
        lines.append(f"{what}: {entry['count']}" + (f" ({shown}{more})" if shown else ""))
    lines.append(f"--scaling {found['advice']['scaling']}: {found['advice']['why']}")
    return "\n".join(lines)
