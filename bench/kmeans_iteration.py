"""One exact k-means iteration of large N: nearest_center + center_sums beside scikit-learn and, where installed, FAISS.

python bench/kmeans_iteration.py [--rows 1000000] [--columns 10] [--clusters 100] [--rounds 7] [--out FILE.json]

Everyone starts from the same centers with the same number of threads, in interleaved rounds. What the others do before
and after iterating (checks, copies, a last assignment) is taken out: their iteration is the difference between a run of
11 iterations and one of a single iteration, divided by ten, with a tolerance of zero so that none stops early. Ours is
ten iterations, divided by ten. All must arrive at the same inertia.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.bench.machine import describe

STEPS = 10


def ours(x: Tensor, centers: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        index, _ = ops.nearest_center(x, centers)
        sums, counts = ops.center_sums(x, index, len(centers))
        centers = torch.where(counts[:, None] > 0, sums / counts[:, None], centers).to(x.dtype)
    return centers


def scikit_learn(x: Tensor, centers: Tensor, steps: int) -> Tensor:
    model = KMeans(len(centers), init=centers.numpy(), n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
    model.fit(x.numpy())
    assert model.n_iter_ == steps, "converged early: take other data"
    return torch.from_numpy(model.cluster_centers_)


def faiss_kmeans(x: Tensor, centers: Tensor, steps: int) -> Tensor:
    import faiss

    model = faiss.Kmeans(
        x.shape[1], len(centers), niter=steps, max_points_per_centroid=len(x), min_points_per_centroid=1
    )
    model.train(x.numpy(), init_centroids=centers.numpy())
    return torch.from_numpy(model.centroids)


def seconds(run: Callable[[int], Tensor], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rows", 1_000_000), ("columns", 10), ("clusters", 100), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(options.rows, options.columns, generator=g)
    centers = x[torch.randperm(options.rows, generator=g)[: options.clusters]].clone()
    runs: dict[str, Callable[[int], Tensor]] = {"ours": lambda n: ours(x, centers, n)}
    runs["scikit-learn"] = lambda n: scikit_learn(x, centers, n)
    try:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        runs["faiss"] = lambda n: faiss_kmeans(x, centers, n)
    except ImportError:
        print("faiss: not installed; pip install faiss-cpu")
    inertia = {name: ops.nearest_center(x, run(STEPS))[1].double().sum().item() for name, run in runs.items()}
    assert max(inertia.values()) < min(inertia.values()) * 1.0001, inertia
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            whole = seconds(run, STEPS) if name == "ours" else seconds(run, STEPS + 1) - seconds(run, 1)
            samples[name].append(whole / STEPS)
    print(f"{options.rows:,} x {options.columns}, K = {options.clusters}, {torch.get_num_threads()} threads")
    ratios = {
        name: statistics.median(a / b for a, b in zip(taken, samples["ours"], strict=True))
        for name, taken in samples.items()
    }
    for name, taken in samples.items():
        print(f"{name:13s} {1e3 * statistics.median(taken):8.1f} ms an iteration, {ratios[name]:.2f} x ours")
    if options.out:
        sizes = {key: getattr(options, key) for key in ("rows", "columns", "clusters", "rounds")}
        record = {**sizes, "machine": describe(), "seconds": samples, "ratio": ratios}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
