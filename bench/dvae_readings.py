"""What the readings of the DVAE paper give: readings × data × seeds, last epoch, labels for the final score only.

    python bench/dvae_readings.py --data digits usps --seeds 0 1 2 3 4 --workers 2 --out bench/results/dvae_readings.json

A cell that is in the file already is not run again. ae-kmeans has the same pretraining settings and seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

READINGS = {
    "ae-kmeans": ("ae-kmeans", {}),
    "default": ("dvae", {}),
    "learning rate 0.002, as printed": ("dvae", {"learning_rate": 2e-3}),
    "rows, beta per row": ("dvae", {"beta_per": "row"}),
    "as printed (pairs, beta per row)": ("dvae", {"normalization": "pairs", "beta_per": "row"}),
    "as printed, bernoulli": ("dvae", {"normalization": "pairs", "beta_per": "row", "decoder": "bernoulli"}),
    "without similarity": ("dvae", {"beta": 0.0}),
    "weights detached": ("dvae", {"detach_weights": True}),
    "codes not rescaled": ("dvae", {"code_scale": None}),
}


def cell(data_name: str, reading: str, seed: int) -> dict:
    """Fit one cell on one thread and score it."""
    import torch

    from deepclust_accel import fitting, metrics
    from deepclust_accel.data import open_data

    torch.set_num_threads(1)
    method, changes = READINGS[reading]
    data = open_data(data_name)
    params, _ = fitting.resolve_params(method, [("reading", changes)])
    settings = fitting.Settings(method, data.n_clusters, params, data.scaling, seed, "cpu")
    result = fitting.fit(settings, data.source)
    labels = result.model.predict(data.source)
    return {
        "data": data_name,
        "reading": reading,
        "seed": seed,
        **metrics.scores(data.labels, labels),
        "clusters_used": len(set(labels.tolist())),
        "seconds": round(sum(result.seconds.values()), 1),
    }


def table(cells: list[dict]) -> str:
    """One row a data set and reading: mean, spread and range of ACC over seeds, and the gain over ae-kmeans."""
    lines = [
        "| data | reading | seeds | ACC % mean ± std (min–max) | NMI % | over ae-kmeans | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in sorted({c["data"] for c in cells}):
        base = {c["seed"]: c["acc"] for c in cells if (c["data"], c["reading"]) == (data, "ae-kmeans")}
        for reading in READINGS:
            rows = [c for c in cells if (c["data"], c["reading"]) == (data, reading)]
            if rows:
                acc = [100 * c["acc"] for c in rows]
                spread = statistics.stdev(acc) if len(acc) > 1 else float("nan")
                score = f"{statistics.mean(acc):.1f} ± {spread:.1f} ({min(acc):.1f}–{max(acc):.1f})"
                nmi, seconds = statistics.mean(c["nmi"] for c in rows), statistics.median(c["seconds"] for c in rows)
                gains = [
                    100 * (c["acc"] - base[c["seed"]]) for c in rows if c["seed"] in base
                ]  # equal seeds, equal networks
                gain = f"{statistics.mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})" if gains else "–"
                lines.append(
                    f"| {data} | {reading} | {len(rows)} | {score} | {100 * nmi:.1f} | {gain} | {seconds:.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Run the missing cells, write the file after each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--readings", nargs="+", default=list(READINGS), choices=list(READINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/results/dvae_readings.json"))
    wanted = parser.parse_args()
    done = json.loads(wanted.out.read_text()) if wanted.out.exists() else []
    have = {(c["data"], c["reading"], c["seed"]) for c in done}
    todo = [(d, r, s) for d in wanted.data for r in wanted.readings for s in wanted.seeds if (d, r, s) not in have]
    with ProcessPoolExecutor(wanted.workers) as pool:
        for future in as_completed([pool.submit(cell, *key) for key in todo]):
            done.append(future.result())
            print(json.dumps(done[-1]), flush=True)
            wanted.out.write_text(
                json.dumps(sorted(done, key=lambda c: (c["data"], c["reading"], c["seed"])), indent=1) + "\n"
            )
    if done:
        print(table(done))


if __name__ == "__main__":
    main()
