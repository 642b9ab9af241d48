"""An epoch of clustering beside ClustPy's: the same network, batch, rows and threads; one JSON to stdout.

    pip install -e ".[clustpy]"
    python bench/clustpy_epochs.py [--rows 4096] [--columns 256] [--epochs 4] [--rounds 5] [--threads 1] > epochs.json
    python bench/clustpy_epochs.py --precision bf16-mixed > epochs.json

What both do around the epochs (pretraining, first clusters, a last assignment) is taken out: an epoch is the difference
between a fit of 1 + E epochs and one of a single epoch, divided by E, in interleaved rounds with the same seed. Ratios are
medians of ratios within a round. ClustPy's DEC and IDEC take their targets from the batch; the papers' are refreshed over
all rows, which is left out here, so that both do the same work (the first targets stay). Both train a 500-500-2000-10
autoencoder with Adam on float32 rows; ClustPy has no other precision than float32, `--precision` is of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata

import numpy as np
import torch

from deepclust_accel import fitting
from deepclust_accel.bench.machine import describe
from deepclust_accel.data import open_data
from deepclust_accel.engine.runtime import PRECISIONS

METHODS = ("dec", "idec", "dcn", "vade")
BATCH = 256


def ours(method: str, x: np.ndarray, clusters: int, epochs: int, precision: str) -> None:
    """Fit with every stage before clustering as short as it gets, and no early stop."""
    wanted = {
        "pretrain_epochs": 1,
        "layer_epochs": 1,
        "epochs": epochs,
        "batch_size": BATCH,
        "stop_changed_fraction": 0.0,
        "update_every_steps": 10**6,  # once, before the first step
    }
    known = fitting.resolve_params(method, [])[0].get_params()
    params, _ = fitting.resolve_params(method, [("bench", {k: v for k, v in wanted.items() if k in known})])
    data = open_data(x)
    result = fitting.fit(fitting.Settings(method, clusters, params, "none", 0, "cpu", precision), data.source)
    done = sum(record["stage"] == result.history[-1]["stage"] for record in result.history)
    assert done == epochs, f"{method}: {done} epochs of clustering instead of {epochs}"


def theirs(method: str, x: np.ndarray, clusters: int, epochs: int, _precision: str) -> None:
    from clustpy import deep

    cls = {"dec": deep.DEC, "idec": deep.IDEC, "dcn": deep.DCN, "vade": deep.VaDE}[method]
    model = cls(clusters, batch_size=BATCH, pretrain_epochs=1, clustering_epochs=epochs, random_state=0, device="cpu")
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):  # it prints, and draws bars
        model.fit(x)


def seconds(fit: Callable[..., None], *arguments: object) -> float:
    """Of the processor on one thread, which a busy machine hardly stretches; else by the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    fit(*arguments)
    return clock() - start


def measure(method: str, x: np.ndarray, clusters: int, epochs: int, rounds: int, precision: str) -> dict:
    """Seconds an epoch, one a round, of both."""
    times: dict[str, list[float]] = {"ours": [], "clustpy": []}
    both = (("ours", ours), ("clustpy", theirs))
    for _, fit in both:  # first calls import, compile and choose kernels
        fit(method, x, clusters, 1, precision)
    for _ in range(rounds):
        for name, fit in both:
            whole = seconds(fit, method, x, clusters, 1 + epochs, precision)
            times[name].append((whole - seconds(fit, method, x, clusters, 1, precision)) / epochs)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["clustpy"], strict=True))
    return {"method": method, "seconds": times, "ours_by_clustpy": round(ratio, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("rows", 4096),
        ("columns", 256),
        ("clusters", 10),
        ("epochs", 4),
        ("rounds", 5),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--precision", default="32-true", choices=PRECISIONS, help="ours; ClustPy has float32 only")
    options = parser.parse_args()
    try:
        version = metadata.version("clustpy")
    except metadata.PackageNotFoundError:
        sys.exit("clustpy: not installed; pip install clustpy")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    g = np.random.default_rng(0)
    rows = g.normal(size=(options.clusters, options.columns))[g.integers(options.clusters, size=options.rows)]
    x = (1 / (1 + np.exp(-(rows + g.normal(size=rows.shape))))).astype(np.float32)  # in [0, 1], as VaDE's decoder wants
    results = []
    for method in options.methods:
        results.append(measure(method, x, options.clusters, options.epochs, options.rounds, options.precision))
        print(method, f"{results[-1]['ours_by_clustpy']:.2f} of ClustPy's time an epoch", file=sys.stderr)
    about = {"clustpy": version, "torch": torch.__version__, "machine": describe()}
    json.dump({"settings": vars(options) | {"batch": BATCH}, **about, "results": results}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
