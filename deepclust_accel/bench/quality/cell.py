"""One cell of the quality bench: one fit on one thread, in a process of its own.

``python -m deepclust_accel.bench.quality.cell`` is that process: a request as JSON on stdin, the outcome as the last line of
stdout. Peak memory is that of one fit only, a crash takes one cell with it, and no cell inherits another's state.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["FULL", "Request", "outcome"]

FULL = "32-true"
# data and its fingerprint, method, seed, params, and precision unless it is FULL: what a fit depends on besides the
# program; and a label to show
Request = dict[str, Any]
_ONE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def outcome(request: Request, timeout_s: float | None = None) -> dict[str, Any]:
    """Run a cell in a fresh process.

    Returns:
        ``status``: "ok"; "unfit", the method refuses such rows or settings; or "failed". With a one-line ``reason``, and for
        "ok" what :func:`_fit_and_score` returns.
    """
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, **dict.fromkeys(_ONE, "1")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"not done after {timeout_s:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        why = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"status": "failed", "reason": f"the process ended with {done.returncode}: {why[0][:160]}"}
    return json.loads(lines[-1])


def _fit_and_score(request: Request) -> dict[str, Any]:
    """Scores of the last epoch as fractions, seconds of fitting (processor and wall), bytes at the peak.

    With ``cache`` in the request, a folder, methods that begin with the same pretraining share it; the seconds include
    what it had cost.
    """
    import torch

    from deepclust_accel import fitting, metrics, ops
    from deepclust_accel.config import from_mapping
    from deepclust_accel.data import open_data
    from deepclust_accel.engine import memory
    from deepclust_accel.errors import DataError
    from deepclust_accel.methods import registry

    torch.set_num_threads(1)
    data = open_data(request["data"])
    if data.labels is None or data.n_clusters is None:
        raise DataError(f"{request['data']}: expected labels for the final scores, got none; give an .npz with X and y")
    params = from_mapping(registry.load(request["method"]).Params, request["params"])
    how = data.scaling, request["seed"], "cpu", request.get("precision", FULL)
    settings = fitting.Settings(request["method"], data.n_clusters, params, *how)
    cache = Path(request["cache"]) if request.get("cache") else None
    wall, cpu = time.perf_counter(), time.process_time()
    result = fitting.fit(settings, data.source, pretrained=cache)
    seconds, wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
    for taken in result.reused.values():  # a cell costs what it would cost alone
        seconds, wall_seconds = seconds + taken.process_seconds, wall_seconds + taken.seconds
    labels = result.model.predict(data.source)
    return {
        **metrics.scores(data.labels, labels),
        "clusters_used": len(set(labels.tolist())),
        "seconds": round(seconds, 2),
        "wall_seconds": round(wall_seconds, 2),
        "peak_bytes": memory.peak(),
        "rows": data.source.spec.rows,
        "n_clusters": data.n_clusters,
        "scaling": data.scaling,
        "instruction_set": ops.instruction_set(),
    }


def _main() -> None:
    from deepclust_accel.bench.providers import first_line
    from deepclust_accel.errors import ArgumentError, DcaccelError

    try:
        answer = {"status": "ok", "reason": ""} | _fit_and_score(json.load(sys.stdin))
    except ArgumentError as error:
        answer = {"status": "unfit", "reason": str(error)}
    except DcaccelError as error:
        answer = {"status": "failed", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - the table wants the reason, not a traceback
        answer = {"status": "failed", "reason": first_line(error)}
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    _main()
