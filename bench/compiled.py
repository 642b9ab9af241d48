"""What ``fit --compile`` gives: seconds of an epoch with and without, in turns in one process.

    python bench/compiled.py --data digits usps --methods idec dvae --rounds 5 --out bench/results/compiled.json

Each round fits twice, three epochs a stage, the defaults otherwise and batches of 256; the first epoch of a stage has the
compilation and is left out of its time. ``ratio`` is the median of the rounds' quotients, compiled over not compiled: below
1 compiling pays. ``compilation_s`` is what the first epochs took beyond the others in the round that compiled, the process's
first. With --out, rows that are there stay.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

from deepclust_accel import fitting
from deepclust_accel.bench.machine import describe
from deepclust_accel.data import open_data

SHORT = {
    "pretrain_epochs": 3,
    "pretrain_batch_size": 256,
    "epochs": 3,
    "batch_size": 256,
    "classifier_steps": 1,
    "warmup_epochs": 0,
    "stop_changed_fraction": 0.0,
}


def fitted(method: str, data, compile: bool) -> tuple[dict[str, float], float]:
    """Median seconds of an epoch of each stage, and what the first epochs took beyond that."""
    known = fitting.resolve_params(method, [])[0].get_params()
    given = {key: value for key, value in SHORT.items() if key in known}
    params = fitting.resolve_params(method, [("bench", given)])[0]
    settings = fitting.Settings(method, data.n_clusters, params, data.scaling, 0, "cpu", compile=compile)
    result = fitting.fit(settings, data.source)
    if any(state != "compiled" for state in result.compiled.values()):
        sys.exit(f"{method}: expected all parts compiled, got {result.compiled}")
    seconds: dict[str, list[float]] = {}
    for record in result.history:
        seconds.setdefault(record["stage"], []).append(record["seconds"])
    later = {stage: statistics.median(values[1:]) for stage, values in seconds.items() if len(values) > 1}
    return later, sum(seconds[stage][0] - value for stage, value in later.items())


def measured(method: str, name: str, rounds: int) -> list[dict]:
    """A row a stage."""
    data, plain, compiled, first = open_data(name), [], [], []
    for number in range(rounds):
        for on in (True, False) if number % 2 else (False, True):
            seconds, extra = fitted(method, data, on)
            (compiled if on else plain).append(seconds)
            first += [extra] if on else []
    rows = []
    for stage in plain[0]:
        ratios = sorted(c[stage] / p[stage] for c, p in zip(compiled, plain, strict=True))
        rows.append(
            {
                "data": name,
                "method": method,
                "stage": stage,
                "plain_s": statistics.median(p[stage] for p in plain),
                "compiled_s": statistics.median(c[stage] for c in compiled),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "compilation_s": max(first),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["digits", "usps"])
    parser.add_argument("--methods", nargs="+", default=["idec", "dvae"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where the result goes as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:  # else torch finds what it has compiled in other processes
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        rows = [row for n in options.data for m in options.methods for row in measured(m, n, options.rounds)]
    if options.out and options.out.exists():
        new = {(row["data"], row["method"]) for row in rows}
        rows = [r for r in json.loads(options.out.read_text())["rows"] if (r["data"], r["method"]) not in new] + rows
    record = {
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    text = json.dumps(record, indent=1, default=str) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
