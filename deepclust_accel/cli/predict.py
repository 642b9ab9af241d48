"""``dcaccel predict`` and ``dcaccel embed``: apply a fitted model to rows."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from deepclust_accel.cli.output import Debug, Json, emit
from deepclust_accel.errors import OutputError

Run = Annotated[Path, typer.Argument(help="Folder that 'dcaccel fit --out' left.")]
DataArgument = Annotated[str, typer.Argument(help="Rows: file, folder or name of a data set, as for 'dcaccel fit'.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")]


def predict(
    run: Run,
    data: DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help=".npy or .parquet file for the clusters, replaced if there [default: print them]."
        ),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option("--probabilities", help=".npy or .parquet file for the (N, K) probabilities, replaced if there."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Assign each row of DATA to a cluster of the model in RUN."""
    import numpy as np

    from deepclust_accel import metrics

    _check_targets(run, data, out, probabilities)
    model, source, truth = _load(run, data, device)
    rows, k = source.spec.rows, model.settings.n_clusters
    sizes, kept = np.zeros(k, np.int64), []
    with (
        _writer(out, rows, (), np.int64, "cluster") as put_labels,
        _writer(probabilities, rows, (k,), np.float32, "probabilities") as put_probabilities,
    ):
        for _, p in model.apply(source):
            p = p.float().numpy()
            found = p.argmax(1)
            put_labels(found)
            put_probabilities(p)
            sizes += np.bincount(found, minlength=k)
            if out is None or truth is not None:
                kept.append(found)
    labels = np.concatenate(kept) if kept else None
    content: dict[str, Any] = {
        "rows": rows,
        "sizes": sizes.tolist(),
        "out": None if out is None else str(out),
        "scores": None if truth is None else metrics.scores(truth, labels),
    }
    if out is None and as_json:
        content["labels"] = labels.tolist()
    text = "\n".join(map(str, labels)) if out is None else f"{rows} rows, clusters in {out}"
    emit("predict", content, as_json, text)


def embed(
    run: Run,
    data: DataArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help=".npy or .parquet file for the (N, Z) codes, replaced if there.")
    ],
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the codes that the model in RUN gives to the rows of DATA."""
    import numpy as np

    from deepclust_accel.data import Rows

    _check_targets(run, data, out)
    model, source, _ = _load(run, data, device)
    rows, width = source.spec.rows, model.embed(Rows(source, np.zeros(1, np.int64))).shape[1]
    with _writer(out, rows, (width,), np.float32, "codes") as put:
        for z, _ in model.apply(source):
            put(z.float().numpy())
    emit(
        "embed",
        {"rows": rows, "width": width, "out": str(out)},
        as_json,
        f"{rows} rows × {width} codes in {out}",
    )


def _check_targets(run: Path, data: str, *paths: Path | None) -> None:
    """Refuse files that cannot be written or that hold something else of value, before any work."""
    from deepclust_accel.data.formats import split

    rows = split(data)[0]
    wanted = [path for path in paths if path is not None]
    if len({os.path.realpath(path) for path in wanted}) < len(wanted):
        raise OutputError(f"{wanted[0]}: expected a file for each result, got one for two; choose another path")
    for path in wanted:
        place = path.parent if os.path.isdir(rows) else path
        kept = "the data" if os.path.exists(rows) and os.path.realpath(place) == os.path.realpath(rows) else ""
        if os.path.realpath(path.parent) == os.path.realpath(run):
            kept = "a place in the run folder"
        elif path.exists() and not path.is_file() and not path.is_dir():
            kept = "a device"
        if kept:
            raise OutputError(f"{path}: expected a file that may be replaced, got {kept}; choose another path")
    for path in wanted:
        if os.path.isdir(path) or not os.access(path.parent, os.W_OK | os.X_OK):
            found = "a folder" if os.path.isdir(path) else "a place that cannot be written"
            raise OutputError(f"{path}: expected a file in an existing folder, got {found}; choose another path")


def _writer(path: Path | None, rows: int, shape: tuple[int, ...], dtype: Any, name: str) -> AbstractContextManager:
    """What appends blocks of rows to a file as they come; without a path, they are dropped."""
    from deepclust_accel.data.writing import open_rows

    return nullcontext(lambda block: None) if path is None else open_rows(path, rows, shape, dtype, name)


def _load(run: Path, data: str, device: str) -> tuple[Any, Any, Any]:
    from deepclust_accel import runs
    from deepclust_accel.data import open_data

    model = runs.load_model(run, device)
    opened = open_data(data)
    return model, opened.source, opened.labels
