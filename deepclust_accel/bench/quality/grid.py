"""The grid of cells, and its record: ``cells.jsonl``, one line a cell, written as each is done.

A cell is known by what its fit depends on: the rows, method, seed, precision and every setting. One that is recorded is
not run again, whatever it was recorded with; the line says which versions that was.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepclust_accel import fitting, ops
from deepclust_accel.bench.machine import describe
from deepclust_accel.bench.quality.cell import FULL, Request, outcome
from deepclust_accel.config import to_mapping
from deepclust_accel.data import open_data
from deepclust_accel.engine.runtime import PRECISIONS
from deepclust_accel.errors import ArgumentError, OutputError
from deepclust_accel.methods import registry

__all__ = ["BASELINES", "RECORD", "plan", "read", "run"]

BASELINES = ("kmeans", "gmm", "pca-kmeans", "ae-kmeans", "ae-gmm")
RECORD = "cells.jsonl"
CACHE = "pretrained"


def plan(
    methods: Sequence[str],
    variants: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    epochs_scale: float,
    precision: str = FULL,
) -> list[Request]:
    """Return one request a cell, seeds outermost, so that a bench cut short has seen every method and data set.

    Args:
        methods: names; the baselines come first and always. Empty: every method that is installed and works.
        variants: each a method and settings, ``"dvae beta=0 hidden=16,8"``.
        data: names or paths.
        precision: of the networks of methods that have epochs, see :class:`fitting.Settings`; another than the default is
            part of their labels.

    Raises:
        ArgumentError, DataError, PluginError: something in it that no cell could run with.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"--precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    known = {name: open_data(name).origin["fingerprint"] for name in data}  # a misspelt name is no failed cell
    names = list(methods) or [entry.name for entry in registry.entries() if not entry.problem]
    columns = [(name, name, {}) for name in dict.fromkeys([*BASELINES, *names])] + [_variant(v) for v in variants]
    settings = []
    for label, method, given in columns:
        full, _ = fitting.resolve_params(method, [("--variant", given)])
        scaled, _ = fitting.resolve_params(method, [("--variant", given)], epochs_scale)
        scale = epochs_scale if to_mapping(scaled) != to_mapping(full) else 1.0
        params = to_mapping(scaled)
        each = {"method": method, "epochs_scale": scale, "params": params}
        if precision != FULL and any(name.endswith("epochs") for name in params):
            label, each = f"{label} {precision}", each | {"precision": precision}
        settings.append({"label": label, **each})
    return [
        {"data": name, "fingerprint": known[name], "seed": seed, **each}
        for seed in seeds
        for name in data
        for each in settings
    ]


def _variant(text: str) -> tuple[str, str, dict[str, str]]:
    words = shlex.split(text)
    pairs = [word.partition("=") for word in words[1:]]
    if not words or not all(name and sign for name, sign, _ in pairs):
        raise ArgumentError(f"--variant: expected a method and name=value, got {text!r}; for example 'dvae beta=0'")
    return " ".join(words), words[0], {name: value for name, _, value in pairs}


def run(
    requests: Sequence[Request],
    folder: Path,
    *,
    workers: int = 1,
    timeout_s: float | None = None,
    retry_failed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Run the cells that are not in the record of ``folder``, write each there when it is done, return the whole record.

    Pretrained networks are shared by cells that begin with the same pretraining; ``folder/pretrained`` keeps them.

    Args:
        workers: processes at a time, each on one thread.
        timeout_s: after which a cell counts as failed; None for no limit.
        retry_failed: run those again whose record says failed.

    Raises:
        OutputError: the folder cannot be written.
    """
    known = {_identity(c) for c in read(folder) if not (retry_failed and c["status"] == "failed")}
    todo = [r for r in requests if _identity(r) not in known]
    say(f"{len(requests)} cells, {len(requests) - len(todo)} of them recorded")
    about = _about()
    pool = ThreadPoolExecutor(workers)
    try:
        cache = {"cache": str((folder / CACHE).absolute())}
        futures = {pool.submit(outcome, request | cache, timeout_s): request for request in todo}
        for done, future in enumerate(as_completed(futures), 1):
            cell = futures[future] | future.result() | about
            cell["recorded"] = datetime.now(UTC).isoformat(timespec="seconds")
            _append(folder, cell)
            say(f"{done}/{len(todo)} {_line(cell)}")
    finally:  # an interrupt drops what has not begun, and what has is not recorded
        pool.shutdown(wait=False, cancel_futures=True)
    return read(folder)


def read(folder: Path) -> list[dict[str, Any]]:
    """The recorded cells in order; of two records of one cell the later.

    What is no cell (a line cut short) is left out, and so are cells of other rows than the last of that name.
    """
    path = folder / RECORD
    cells: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            cell = json.loads(line)
            cells.pop(identity := _identity(cell), None)
            cells[identity] = cell
    newest = {cell["data"]: cell["fingerprint"] for cell in cells.values()}
    return [cell for cell in cells.values() if cell["fingerprint"] == newest[cell["data"]]]


def _identity(cell: Request) -> str:
    known = [cell[key] for key in ("data", "fingerprint", "method", "seed", "params")]
    return json.dumps([*known, cell.get("precision", FULL)], sort_keys=True)


def _append(folder: Path, cell: dict[str, Any]) -> None:
    """Add a line; one that was cut short before it is ended first, so that only it is lost."""
    path = folder / RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        with open(path, "a") as file:
            file.write(("" if whole else "\n") + json.dumps(cell) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: expected a file to add to, got {error.strerror}; choose another --out") from error


def _about() -> dict[str, Any]:
    machine = describe()
    build = ops.build_info().get("commit")
    return {"versions": fitting.versions(), "kernels_commit": build, "cpu": machine["cpu"], "system": machine["system"]}


def _line(cell: dict[str, Any]) -> str:
    name = f"{cell['data']} {cell['label']} seed {cell['seed']}"
    if cell["status"] != "ok":
        return f"{name}: {cell['status']}: {cell['reason']}"
    return f"{name}: acc {cell['acc']:.4f}  nmi {cell['nmi']:.4f}  {cell['seconds']:.1f} s"
