"""From a request to a finished run folder: open, check, fit, score, write; what ``dcaccel fit`` does, from Python."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel import fitting, metrics, report, runs
from deepclust_accel.config import to_mapping
from deepclust_accel.data import Data, fingerprint, open_data
from deepclust_accel.engine.checkpoint import Checkpoint, compare
from deepclust_accel.engine.monitor import watcher
from deepclust_accel.errors import ArgumentError, DataError
from deepclust_accel.fitting import FitResult, Settings

__all__ = ["FitRequest", "open_labels", "run_fit"]


@dataclass(frozen=True)
class FitRequest:
    """What was asked for, before anything is looked up.

    Attributes:
        layers: ``(origin, mapping)`` of method settings, later ones winning.
        scaling: None for what the data set's entry advises.
        command: recorded, and shown in the report as the way to reproduce the run.
    """

    method: str
    data: str
    out: Path
    n_clusters: int
    layers: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    seed: int = 0
    scaling: str | None = None
    epochs_scale: float = 1.0
    device: str = "auto"
    precision: str = "32-true"
    labels: Path | None = None
    resume: bool = False
    overwrite: bool = False
    command: str = ""


def run_fit(
    request: FitRequest, *, quiet: bool = False, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Fit, score and write everything; return the content of run.json.

    Raises:
        DcaccelError: something to mend; nothing half-written is left.
    """
    params, origin = fitting.resolve_params(request.method, request.layers, request.epochs_scale)
    data = open_data(request.data)
    truth = open_labels(request.labels, data)
    settings = Settings(
        request.method,
        _whole(request.n_clusters, "n_clusters"),
        params,
        data.scaling if request.scaling is None else request.scaling,
        _whole(request.seed, "seed"),
        request.device,
        request.precision,
    )
    started = {
        "status": "running",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": request.command,
        **_description(settings, origin, data, request),
    }
    runs.claim(request.out, resume=request.resume, overwrite=request.overwrite, dry=True)
    if request.resume and (finished := _finished(request.out, settings, data)):
        say(f"{request.out}: this run is finished; nothing to resume")
        return finished

    def begin() -> None:
        runs.claim(request.out, resume=request.resume, overwrite=request.overwrite)
        if not Checkpoint(request.out / runs.CHECKPOINT, {}).exists():
            runs.write_record(request.out, started)

    result = fitting.fit(
        settings,
        data.source,
        checkpoint=request.out / runs.CHECKPOINT,
        resume=request.resume,
        history_path=request.out / runs.HISTORY,
        watcher=watcher(sys.stderr, quiet),
        on_start=begin,
    )
    return _finish(request, started, result, data, truth)


def open_labels(path: Path | None, data: Data) -> np.ndarray | None:
    """Return the labels for scoring: from a .npy file, or those that came with the data."""
    if path is None:
        return data.labels
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise DataError(f"{path}: expected a .npy file of labels, got {cause}; save it with numpy.save") from cause
    if labels.ndim != 1 or len(labels) != data.source.spec.rows:
        raise DataError(f"{path}: expected {data.source.spec.rows} labels, got shape {labels.shape}; give one a row")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: expected whole numbers, got {labels.dtype}; convert with astype(int)")
    return labels


def _description(settings: Settings, origin: Mapping[str, str], data: Data, request: FitRequest) -> dict[str, Any]:
    spec = data.source.spec
    return {
        "method": settings.method,
        "plugin": fitting.plugin_of(settings.method),
        "n_clusters": settings.n_clusters,
        "seed": settings.seed,
        "device": settings.device,
        "precision": settings.precision,
        "params": {
            name: {"value": value, "origin": origin[name]} for name, value in to_mapping(settings.params).items()
        },
        "data": {
            "name": data.name,
            "rows": spec.rows,
            "shape": list(spec.shape),
            "image_shape": data.image_shape,
            "spec": request.data,
            **data.origin,
        },
        "labels": None if request.labels is None else str(request.labels),
        "scaling": settings.scaling,
        "versions": fitting.versions(),
        "out": str(request.out),
    }


def _finished(folder: Path, settings: Settings, data: Data) -> dict[str, Any] | None:
    """Return the record of a finished run with the same settings, None if there is no finished run."""
    if not (folder / "run.json").exists():
        return None
    record = runs.read_record(folder)
    if record.get("status") != "finished":
        return None
    now = {
        "method": settings.method,
        "n_clusters": settings.n_clusters,
        "seed": settings.seed,
        "scaling": settings.scaling,
        "params": to_mapping(settings.params),
        "data": fingerprint(data.source),
    }
    saved = {key: record["model"].get(key) for key in now} | {"data": record.get("data", {}).get("fingerprint")}
    compare(saved, now)
    return record


def _finish(
    request: FitRequest, started: dict[str, Any], result: FitResult, data: Data, truth: np.ndarray | None
) -> dict[str, Any]:
    """Assign all rows, score them, write results, report and record, then drop the snapshots."""
    out, begin = request.out, time.monotonic()
    probabilities = result.model.probabilities(data.source)
    labels = probabilities.argmax(1).astype(np.int64)
    codes = result.model.embed(data.source)
    runs.write_array(out / "labels.npy", labels)
    runs.write_array(out / "probabilities.npy", probabilities)
    record = started | {
        "status": "finished",
        "kernels": result.kernels,
        "seconds": {
            **{k: round(v, 3) for k, v in result.seconds.items()},
            "assign": round(time.monotonic() - begin, 3),
        },
        "scores": None if truth is None else metrics.scores(truth, labels),
        "label_free": metrics.label_free(codes, labels, seed=0),
        "model": runs.save_model(out, result.model),
        "report": str(out / "report.html"),
    }
    runs.write_record(out, record)  # before the page, so that nothing can take the result away any more
    report.write(out, record, result.history, labels, probabilities, codes, data, truth)
    Checkpoint(out / runs.CHECKPOINT, {}).remove()
    return record


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(f"{name}: expected a whole number, got {value!r}; write it without quotes or decimals")
    return value


def redraw(folder: Path, where: str | None = None) -> Path:
    """Write the report of a finished run again and return its path.

    Raises:
        ResumeError: no finished run. DataError: the rows are not there any more, or are others.
    """
    model, record = runs.load_model(folder), runs.read_record(folder)
    data = open_data(where or record.get("data", {}).get("spec", ""))
    if fingerprint(data.source) != record["data"].get("fingerprint"):
        raise DataError(
            f"{where or record['data']['spec']}: expected the rows of this run, got others; give theirs with --data"
        )
    labels_path = record.get("labels")
    truth = open_labels(None if labels_path is None else Path(labels_path), data)
    return report.write(
        folder,
        record,
        runs.read_history(folder),
        runs.read_array(folder / "labels.npy"),
        runs.read_array(folder / "probabilities.npy"),
        model.embed(data.source),
        data,
        truth,
    )
