"""The run folder: what a fit leaves on disk, written whole or not at all, and read back without pickle.

run.json            method, parameters and their origin, data, versions, kernels, scores; says whether the run is finished
model.safetensors   network and scaling
labels.npy          (N,) int64            probabilities.npy   (N, K) float32
history.jsonl       a record an epoch     report.html         the page to look at
checkpoint/         snapshots while the run is unfinished
tensorboard/        event files, if they were asked for
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from deepclust_accel import fitting
from deepclust_accel.atomic import left_over, sweep, write_atomic
from deepclust_accel.config import from_mapping, to_mapping
from deepclust_accel.data import DataSpec, Scaling
from deepclust_accel.engine.runtime import device_of
from deepclust_accel.errors import OutputError, PluginError, ResumeError
from deepclust_accel.fitting import Model, Settings
from deepclust_accel.methods import registry

__all__ = [
    "CHECKPOINT",
    "HISTORY",
    "SCHEMA",
    "TENSORBOARD",
    "claim",
    "load_model",
    "read_array",
    "read_history",
    "read_record",
    "save_model",
    "write_array",
    "write_record",
]

SCHEMA, VERSION = "deepclust_accel.run", 1
RECORD, MODEL, HISTORY, CHECKPOINT = "run.json", "model.safetensors", "history.jsonl", "checkpoint"
TENSORBOARD = "tensorboard"


_NONE = type(None)
_KINDS = {  # of entries that are used without a look at them
    "data": (dict,),
    "seconds": (dict,),
    "scores": (dict, _NONE),
    "label_free": (dict, _NONE),
    "n_clusters": (int,),
    "clusters_used": (int,),
    "labels": (str, _NONE),
}


def claim(folder: Path, *, resume: bool = False, overwrite: bool = False, dry: bool = False) -> None:
    """Make the folder ours, or refuse before any work is done; ``dry`` refuses alike but changes nothing.

    Raises:
        OutputError: it holds another run (unless ``resume`` or ``overwrite``), holds other files, or cannot be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: expected a folder, got a file; choose another --out")
        record = folder / RECORD
        if record.exists() and overwrite:
            if not dry:
                clear(folder)
        elif record.exists() and not resume:
            finished = read_record(folder).get("status") == "finished"
            state = "a finished run" if finished else "an unfinished run"
            advice = ("" if finished else "--resume to continue it, ") + "--overwrite to replace it"
            raise OutputError(
                f"{folder}: expected an empty or new folder, got one with {state}; choose another --out, {advice}"
            )
        elif folder.exists() and not record.exists() and any(not left_over(path) for path in folder.iterdir()):
            raise OutputError(
                f"{folder}: expected an empty or new folder, got one with other files; choose another --out"
            )
        if dry:
            return
        sweep(folder)
        _try_writing(folder)
    except OSError as cause:
        if isinstance(cause, OutputError):
            raise
        raise OutputError(
            f"{folder}: expected a folder that can be written, got {cause.strerror}; choose another --out"
        ) from cause


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; OutputError when one is at work there. Without effect on Windows."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as cause:
        raise OutputError(
            f"{folder}: expected a folder of our own, got one that another process is writing; wait for it or choose "
            "another --out"
        ) from cause
    finally:
        os.close(handle)


def _try_writing(folder: Path) -> None:
    """Make the folder and write to it; where that fails, nothing new is left."""
    missing, probe = [p for p in (folder, *folder.parents) if not p.exists()], folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except BaseException:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
            for made in missing:
                made.rmdir()
        raise


def clear(folder: Path) -> None:
    """Remove the files of an earlier run, and only those; the record, by which they are known, last."""
    for name in (CHECKPOINT, TENSORBOARD):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (MODEL, HISTORY, "labels.npy", "probabilities.npy", "report.html", RECORD):
        (folder / name).unlink(missing_ok=True)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json atomically."""
    text = json.dumps({"schema": SCHEMA, "version": VERSION, **record}, indent=2, default=_plain)
    write_atomic(folder / RECORD, text.encode())


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        ResumeError: it is missing, damaged, or of another schema.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ResumeError(f"{folder}: expected a run folder with {RECORD}, got none; give the --out of a fit")
    try:
        record = json.loads(path.read_bytes())
        schema = (record["schema"], record["version"])
        for key, kinds in _KINDS.items():
            if not isinstance(record.get(key, kinds[0]()), kinds):
                raise ValueError(f"{key} = {record[key]!r}")
        for key in ("seconds", "scores"):
            if not all(isinstance(value, (int, float)) for value in (record.get(key) or {}).values()):
                raise ValueError(f"{key} = {record[key]!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as cause:
        raise ResumeError(f"{path}: expected a run record, got {type(cause).__name__}: {cause}; fit again") from cause
    if schema != (SCHEMA, VERSION):
        raise ResumeError(
            f"{path}: expected {SCHEMA} version {VERSION}, got {schema[0]} version {schema[1]}; "
            f"use the deepclust_accel that wrote it"
        )
    return record


def save_model(folder: Path, model: Model) -> dict[str, Any]:
    """Write model.safetensors and return what run.json must say about it (settings, shape, checksum)."""
    tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    tensors |= {f"scaling.{k}": v for k, v in model.scaling.state().items()}
    data = save_tensors(tensors)
    write_atomic(folder / MODEL, data)
    s = model.settings
    return {
        "method": s.method,
        "plugin": fitting.plugin_of(s.method),
        "n_clusters": int(s.n_clusters),
        "seed": s.seed,
        "params": to_mapping(s.params),
        "scaling": s.scaling,
        "precision": s.precision,
        "spec": asdict(model.spec),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def load_model(folder: str | Path, device: str = "auto") -> Model:
    """Read a fitted model back; it predicts what it predicted when it was saved.

    Raises:
        ResumeError: no finished run there, damaged files, or a method that has changed since.
        PluginError: the method is not installed.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record.get("status") == "running":
        raise ResumeError(
            f"{folder}: expected a finished run, got one that was interrupted; continue it with 'dcaccel fit … --resume'"
        )
    try:
        saved = record["model"]
        data = (folder / MODEL).read_bytes()
        if hashlib.sha256(data).hexdigest() != saved["sha256"]:
            raise ResumeError(f"{folder / MODEL}: expected the recorded checksum, got a damaged file; fit again")
        tensors = load_tensors(data)
        image = saved["spec"].get("image_shape")
        spec = DataSpec(
            tuple(saved["spec"]["shape"]),
            saved["spec"]["rows"],
            bool(saved["spec"]["unit_range"]),
            None if image is None else tuple(image),
        )
        method, k = str(saved["method"]), int(saved["n_clusters"])
        params, scaling, seed, precision = (
            dict(saved["params"]),
            saved["scaling"],
            int(saved["seed"]),
            saved["precision"],
        )
        if k < 1 or not all(isinstance(n, int) and n > 0 for n in spec.shape):
            raise ValueError(f"{k} clusters, shape {spec.shape}")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as cause:
        raise ResumeError(
            f"{folder}: expected a saved model, got {type(cause).__name__}: {cause}; fit again"
        ) from cause
    settings = Settings(method, k, from_mapping(registry.load(method).Params, params), scaling, seed, device, precision)
    network = fitting.build(settings, spec)
    try:
        network.load_state_dict(_strip(tensors, "network."))
    except RuntimeError as cause:
        old = saved.get("plugin", {}).get("version")
        raise PluginError(
            f"method {method!r}: expected the state it saved with version {old}, got another layout; "
            f"install that version or fit again"
        ) from cause
    scale = Scaling.from_state(_strip(tensors, "scaling."))
    return Model(settings, spec, network, scale, device_of(device))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def read_array(path: Path) -> np.ndarray:
    """Read a .npy file as a memory map; ResumeError when it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise ResumeError(f"{path}: expected an array, got {type(cause).__name__}: {cause}; fit again") from cause


def read_history(folder: Path) -> list[dict]:
    """Read history.jsonl; empty when there is none."""
    path = folder / HISTORY
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        if not all(isinstance(record, dict) and {"stage", "epoch"} <= set(record) for record in records):
            raise ValueError("a line without stage and epoch")
        return records
    except (OSError, ValueError) as cause:
        raise ResumeError(f"{path}: expected a JSON object a line, got {cause}; fit again") from cause


def _strip(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, set)):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} to {RECORD}")
