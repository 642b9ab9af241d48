"""``dcaccel predict`` and ``dcaccel embed``: apply a fitted model to rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from deepclust_accel.cli.output import Debug, Json, emit
from deepclust_accel.errors import OutputError

Run = Annotated[Path, typer.Argument(help="Folder that 'dcaccel fit --out' left.")]
DataArgument = Annotated[str, typer.Argument(help="Path of a .npy, .npz or .csv file, or the name of a data set.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")]


def predict(
    run: Run,
    data: DataArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help=".npy file for the clusters [default: print them].")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", help=".npy file for the (N, K) probabilities.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Assign each row of DATA to a cluster of the model in RUN."""
    import numpy as np

    from deepclust_accel import metrics, runs

    _check_targets(run, data, out, probabilities)
    model, source, truth = _load(run, data, device)
    table = model.probabilities(source)
    labels = table.argmax(1).astype(np.int64)
    if out is not None:
        runs.write_array(out, labels)
    if probabilities is not None:
        runs.write_array(probabilities, table)
    sizes = np.bincount(labels, minlength=model.settings.n_clusters).tolist()
    content: dict[str, Any] = {
        "rows": len(labels),
        "sizes": sizes,
        "out": None if out is None else str(out),
        "scores": None if truth is None else metrics.scores(truth, labels),
    }
    if out is None and as_json:
        content["labels"] = labels.tolist()
    text = "\n".join(map(str, labels)) if out is None else f"{len(labels)} rows, clusters in {out}"
    emit("predict", content, as_json, text)


def embed(
    run: Run,
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help=".npy file for the (N, Z) codes.")],
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the codes that the model in RUN gives to the rows of DATA."""
    from deepclust_accel import runs

    _check_targets(run, data, out)
    model, source, _ = _load(run, data, device)
    codes = model.embed(source)
    runs.write_array(out, codes)
    emit(
        "embed",
        {"rows": len(codes), "width": codes.shape[1], "out": str(out)},
        as_json,
        f"{len(codes)} rows × {codes.shape[1]} codes in {out}",
    )


def _check_targets(run: Path, data: str, *paths: Path | None) -> None:
    """Refuse files that cannot be written or that hold something else of value, before any work."""
    wanted = [path for path in paths if path is not None]
    if len({os.path.realpath(path) for path in wanted}) < len(wanted):
        raise OutputError(f"{wanted[0]}: expected a file for each result, got one for two; choose another path")
    for path in wanted:
        kept = "the data" if os.path.exists(data) and os.path.realpath(path) == os.path.realpath(data) else ""
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


def _load(run: Path, data: str, device: str) -> tuple[Any, Any, Any]:
    from deepclust_accel import runs
    from deepclust_accel.data import open_data

    model = runs.load_model(run, device)
    opened = open_data(data)
    return model, opened.source, opened.labels
