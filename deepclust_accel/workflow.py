"""From a request to a finished run folder: open, check, fit, score, write; what ``dcaccel fit`` does, from Python."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepclust_accel import fitting, metrics, report, runs
from deepclust_accel.atomic import sweep
from deepclust_accel.config import to_mapping
from deepclust_accel.data import Data, DataSource, Rows, fingerprint, open_data
from deepclust_accel.data.formats import read_labels
from deepclust_accel.data.writing import open_rows
from deepclust_accel.engine.checkpoint import Checkpoint, compare
from deepclust_accel.engine.monitor import Watcher, together, watcher
from deepclust_accel.engine.pretraining import Networks
from deepclust_accel.engine.tensorboard import TensorBoard
from deepclust_accel.errors import ArgumentError, DataError, DcaccelError, ResumeError
from deepclust_accel.fitting import FitResult, Model, Settings
from deepclust_accel.forecast import Forecast, forecast
from deepclust_accel.pretrained import pretrained_from
from deepclust_accel.report.survey import Nearest, Survey, sample_rows

__all__ = ["FitRequest", "forecast_fit", "open_labels", "run_fit"]


@dataclass(frozen=True)
class FitRequest:
    """What was asked for, before anything is looked up.

    Attributes:
        layers: ``(origin, mapping)`` of method settings, later ones winning.
        scaling: None for what the data set's entry advises.
        origins: option → where its value came from, for the record.
        out: may be None for a forecast.
        command: recorded, and shown in the report as the way to reproduce the run.
    """

    method: str
    data: str
    out: Path | None
    n_clusters: int
    layers: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    seed: int = 0
    scaling: str | None = None
    epochs_scale: float = 1.0
    device: str = "auto"
    precision: str = "32-true"
    compile: bool = False
    labels: str | None = None
    pretrained: str | None = None
    resume: bool = False
    overwrite: bool = False
    tensorboard: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


def run_fit(
    request: FitRequest, *, quiet: bool = False, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Fit, score and write everything; return the content of run.json.

    Raises:
        DcaccelError: something to mend; nothing half-written is left.
    """
    if request.resume and request.overwrite:
        raise ArgumentError("--resume: expected it without --overwrite, got both; continue the run or replace it")
    board = TensorBoard(request.out / runs.TENSORBOARD) if request.tensorboard else None
    settings, origin, data = _look_up(request)
    truth = open_labels(request.labels, data)
    started = {
        "status": "running",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": request.command,
        **_description(settings, origin, data, request),
    }
    earlier = runs.read_record(request.out) if request.resume and (request.out / runs.RECORD).exists() else None
    if earlier:
        _check_same(earlier, settings, data, request.pretrained)
    finished = earlier and earlier.get("status") == "finished"
    if int(os.environ.get("RANK", "0")):
        return earlier if finished else _follow(request, settings, data)
    runs.claim(request.out, resume=request.resume, overwrite=request.overwrite, dry=True)
    if finished:
        runs.load_model(request.out)  # "nothing to resume" is said only of a run that is whole
        for name in ("labels.npy", "probabilities.npy"):
            runs.read_array(request.out / name)
        _complete(request)
        say(f"{request.out}: this run is finished; nothing to resume")
        return earlier
    started |= {key: earlier[key] for key in ("created", "command") if earlier and key in earlier}
    shown = watcher(sys.stderr, quiet) if board is None else together(watcher(sys.stderr, quiet), board)
    with ExitStack() as held:
        result, kernels = _fit(request, settings, data, started, earlier, shown, held)
        return _finish(request, started | {"kernels": kernels}, result, data, truth)


def forecast_fit(request: FitRequest) -> Forecast:
    """What ``run_fit`` of this request would take; nothing is written.

    Raises:
        DcaccelError: as in a fit.
    """
    if request.resume or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArgumentError("--dry-run: expected a new run in one process, got --resume or several; leave that out")
    if request.out is not None:
        runs.claim(request.out, overwrite=request.overwrite, dry=True)
    settings, _, data = _look_up(request)
    given = pretrained_from(request.pretrained, settings.scaling, data.source.spec.shape)

    def finish(model: Model, part: DataSource) -> None:
        found = _survey(model, part)
        metrics.label_free(found.codes, found.labels, seed=0)

    return forecast(settings, data.source, pretrained=given if isinstance(given, Networks) else None, finish=finish)


def _look_up(request: FitRequest) -> tuple[Settings, dict[str, str], Data]:
    """Settings, where each parameter is from, and the data, opened."""
    params, origin = fitting.resolve_params(request.method, request.layers, request.epochs_scale)
    data = open_data(request.data)
    scaling = data.scaling if request.scaling is None else request.scaling
    where = request.device, request.precision, request.compile
    settings = Settings(request.method, request.n_clusters, params, scaling, request.seed, *where)
    return settings, origin, data


def _follow(request: FitRequest, settings: Settings, data: Data) -> dict[str, Any]:
    """Train along with rank 0, which alone reports and writes."""
    fitting.fit(
        settings,
        data.source,
        checkpoint=request.out / runs.CHECKPOINT,
        resume=request.resume,
        pretrained=pretrained_from(request.pretrained, settings.scaling, data.source.spec.shape),
    )
    return {}


def _fit(
    request: FitRequest,
    settings: Settings,
    data: Data,
    started: Mapping[str, Any],
    earlier: Mapping[str, Any] | None,
    shown: Watcher,
    held: ExitStack,
) -> tuple[FitResult, dict[str, Any]]:
    """Fit, and say which kernels that took; a fit that is interrupted notes them in run.json.

    From the first write on the folder is ours until ``held`` is closed.
    """
    used, begun, snapshots = {}, False, Checkpoint(request.out / runs.CHECKPOINT, {})
    before = _kernels_before(earlier) if earlier and snapshots.exists() else {}

    def begin() -> None:
        nonlocal begun
        there = request.out.is_dir()
        if there:  # hold it before anything in it is cleared
            held.enter_context(runs.hold(request.out))
        runs.claim(request.out, resume=request.resume, overwrite=request.overwrite)
        if not there:
            held.enter_context(runs.hold(request.out))
        if not snapshots.exists():
            runs.write_record(request.out, started)
        begun = True

    try:
        result = fitting.fit(
            settings,
            data.source,
            checkpoint=snapshots.folder,
            resume=request.resume,
            history_path=request.out / runs.HISTORY,
            watcher=shown,
            on_start=begin,
            kernels=used,
            pretrained=pretrained_from(request.pretrained, settings.scaling, data.source.spec.shape),
        )
    except BaseException as cause:
        if begun and isinstance(cause, DcaccelError) and not earlier and not snapshots.exists():
            runs.clear(request.out)  # nothing to resume from: the corrected command shall not be in its own way
        elif begun:
            with suppress(DcaccelError):  # the disk may be what ended it
                runs.write_record(request.out, runs.read_record(request.out) | {"kernels": _merged(before, used)})
        raise
    return result, _merged(before, used)


def _kernels_before(earlier: Mapping[str, Any]) -> dict[str, Any]:
    """What an interrupted session noted; one that was killed could not."""
    killed = {"kernel": "unknown", "why": "it was killed before it could note its operators"}
    return dict(earlier.get("kernels", {"an earlier session": killed}))


def _merged(before: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, Any]:
    """Operator → what it ran on in all sessions of a run; ``calls`` are those of the last session that called it."""
    merged = dict(before)
    for name, now in used.items():
        then = before.get(name, now)
        if then["kernel"] != now["kernel"]:
            now = now | {"why": f"{now['why']}; {then['kernel']} before it was interrupted: {then['why']}"}
        merged[name] = now
    return merged


def open_labels(where: str | None, data: Data) -> np.ndarray | None:
    """Return the labels for scoring: those :func:`~.data.formats.read_labels` finds, or those that came with the data."""
    return data.labels if where is None else read_labels(where, data.source.spec.rows)


def _description(settings: Settings, origin: Mapping[str, str], data: Data, request: FitRequest) -> dict[str, Any]:
    spec = data.source.spec
    return {
        "method": settings.method,
        "plugin": fitting.plugin_of(settings.method),
        "n_clusters": settings.n_clusters,
        "seed": settings.seed,
        "device": settings.device,
        "precision": settings.precision,
        "compile": settings.compile,
        "world_size": _processes(),
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
        "labels": request.labels,
        "pretrained": request.pretrained,
        "scaling": settings.scaling,
        "origins": {**request.origins, **({"scaling": "data set"} if request.scaling is None else {})},
        "versions": fitting.versions(),
        "out": str(request.out),
    }


def _processes() -> int:
    """As :class:`~deepclust_accel.engine.runtime.Runtime` will find them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _check_same(record: Mapping[str, Any], settings: Settings, data: Data, pretrained: str | None) -> None:
    """Refuse to take a run for another one."""
    now = {
        "method": settings.method,
        "n_clusters": settings.n_clusters,
        "seed": settings.seed,
        "scaling": settings.scaling,
        "params": to_mapping(settings.params),
        "precision": settings.precision,
        "compile": settings.compile,
        "pretrained": None if pretrained == "cache" else pretrained,  # a cache has the bits that training has
        "world_size": _processes(),
        "data": fingerprint(data.source),
    }
    try:
        saved = {key: record[key] for key in ("method", "n_clusters", "seed", "scaling", "precision", "compile")}
        saved |= {
            "params": {name: entry["value"] for name, entry in record["params"].items()},
            "pretrained": None if record["pretrained"] == "cache" else record["pretrained"],
            "world_size": record["world_size"],
            "data": record["data"]["fingerprint"],
        }
    except (KeyError, TypeError, AttributeError) as cause:
        raise ResumeError(
            f"{runs.RECORD}: expected the record of a run, got one without {cause}; start anew with --overwrite"
        ) from cause
    compare(saved, now)


def _complete(request: FitRequest) -> None:
    """Draw the page of a finished run if it was stopped before that, and drop its snapshots."""
    if not (request.out / "report.html").exists():
        redraw(request.out, request.data)
        sweep(request.out)
    Checkpoint(request.out / runs.CHECKPOINT, {}).remove()


def _finish(
    request: FitRequest, started: dict[str, Any], result: FitResult, data: Data, truth: np.ndarray | None
) -> dict[str, Any]:
    """Assign all rows, score them, write results, report and record, then drop the snapshots."""
    out, begin, (rows, k) = request.out, time.monotonic(), (data.source.spec.rows, request.n_clusters)
    with (
        open_rows(out / "labels.npy", rows, (), np.int64) as put_labels,
        open_rows(out / "probabilities.npy", rows, (k,), np.float32) as put_probabilities,
    ):
        sizes = np.zeros(k, np.int64)

        def keep(labels: np.ndarray, probabilities: np.ndarray) -> None:
            sizes[:] += np.bincount(labels, minlength=k)
            put_labels(labels)
            put_probabilities(probabilities)

        survey = _survey(result.model, data.source, keep=keep)
    labels, probabilities = (runs.read_array(out / name) for name in ("labels.npy", "probabilities.npy"))
    record = started | {
        "status": "finished",
        "device": str(result.model.device),
        "seconds": {
            **{k: round(v, 3) for k, v in result.seconds.items()},
            "assign": round(time.monotonic() - begin, 3),
        },
        "scores": None if truth is None else metrics.scores(truth, labels),
        "clusters_used": int((sizes > 0).sum()),
        "sizes": sizes.tolist(),
        "label_free": metrics.label_free(survey.codes, survey.labels, seed=0),
        "health": result.health,
        "compiled": result.compiled,
        "model": runs.save_model(out, result.model),
        "report": str(out / "report.html"),
    }
    runs.write_record(out, record)  # before the page, so that nothing can take the result away any more
    report.write(out, record, result.history, labels, probabilities, survey, data, truth)
    Checkpoint(out / runs.CHECKPOINT, {}).remove()
    return record


def _survey(
    model: Model,
    source: DataSource,
    given: np.ndarray | None = None,
    keep: Callable[[np.ndarray, np.ndarray], None] = lambda labels, probabilities: None,
) -> Survey:
    """Go through all rows once, after a sample of them, holding no more than a block beside the sample.

    Args:
        given: (N,) clusters; None for those that the model gives.
        keep: gets labels (B,) and probabilities (B, K) of every block, in row order.
    """
    sample = sample_rows(source.spec.rows)
    blocks = list(model.apply(Rows(source, sample)))
    codes = torch.cat([z for z, _ in blocks]).float().numpy()
    own = torch.cat([p for _, p in blocks]).float().numpy().argmax(1) if given is None else np.asarray(given[sample])
    nearest, first = Nearest(codes, own, model.settings.n_clusters), 0
    for z, p in blocks if len(sample) == source.spec.rows else model.apply(source):
        p = p.float().numpy()
        labels = p.argmax(1) if given is None else np.asarray(given[first : first + len(p)])
        keep(labels, p)
        nearest.add(z.float().numpy(), labels, first)
        first += len(p)
    return Survey(sample, codes, own, nearest.rows)


def redraw(folder: Path, where: str | None = None) -> Path:
    """Write the report of a finished run again and return its path.

    Raises:
        ResumeError: no finished run, or one without data. DataError: the rows are not there any more, or are others.
    """
    model, record = runs.load_model(folder), runs.read_record(folder)
    if "data" not in record:
        raise ResumeError(
            f"{folder}: expected a run of 'dcaccel fit', got a model saved by the estimator, which keeps no rows to show; "
            f"fit it with 'dcaccel fit'"
        )
    data = open_data(where or record["data"]["spec"])
    if fingerprint(data.source) != record["data"].get("fingerprint"):
        raise DataError(
            f"{where or record['data']['spec']}: expected the rows of this run, got others; give theirs with --data"
        )
    labels, probabilities = (runs.read_array(folder / name) for name in ("labels.npy", "probabilities.npy"))
    rows, k = data.source.spec.rows, model.settings.n_clusters
    if labels.shape != (rows,) or probabilities.shape != (rows, k) or labels.min() < 0 or labels.max() >= k:
        raise ResumeError(
            f"{folder}: expected {rows} labels below {k} and their probabilities, got {labels.shape} and "
            f"{probabilities.shape}; fit again"
        )
    truth = open_labels(record.get("labels"), data)
    return report.write(
        folder,
        record,
        runs.read_history(folder),
        labels,
        probabilities,
        _survey(model, data.source, labels),
        data,
        truth,
    )
