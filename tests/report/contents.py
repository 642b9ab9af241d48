"""Report contents to test with."""

import dataclasses

import numpy as np

from deepclust_accel.report import ReportContent


def make(rows=300, clusters=4, latent=5, features=6, *, labeled=True, seed=0, **changes):
    """A plausible small run: blobs, most of them in the right cluster."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % clusters
    x = rng.normal(size=(clusters, features))[y] * 4 + rng.normal(size=(rows, features))
    labels = np.where(rng.random(rows) < 0.9, (y + 1) % clusters, rng.integers(0, clusters, rows))
    near = np.full((clusters, 5), -1)
    for k in range(clusters):
        members = np.flatnonzero(labels == k)[:5]
        near[k, : len(members)] = members
    history = [{"stage": "pretrain", "epoch": e, "seconds": 0.1, "reconstruction": 5 / (e + 1)} for e in range(10)]
    history += [
        {"stage": "joint", "epoch": e, "seconds": 0.2, "reconstruction": 0.5, "similarity": 2.0 - e / 20}
        for e in range(20)
    ]
    content = ReportContent(
        run=record(rows, features, clusters),
        history=history,
        labels=labels.astype(np.int64),
        confidence=rng.beta(6, 2, rows).astype(np.float32),
        sample=np.arange(rows),
        embedding=(x @ rng.normal(size=(features, latent))).astype(np.float32),
        examples=x[np.maximum(near, 0)],
        example_rows=near,
        truth=y * 10 if labeled else None,
        image_shape=None,
    )
    return dataclasses.replace(content, **changes)


def record(rows, features, clusters):
    """A run.json."""
    return {
        "schema": "deepclust_accel.run",
        "version": 1,
        "method": "dvae",
        "n_clusters": clusters,
        "seed": 3,
        "params": {"latent": {"value": 10, "origin": "default"}, "epochs": {"value": 20, "origin": "--set"}},
        "data": {"name": "blobs", "rows": rows, "shape": [features], "kind": "array"},
        "scaling": "standardize",
        "versions": {"deepclust_accel": "0.1.0", "torch": "2.13.0"},
        "kernels": {"wasserstein_similarity": {"kernel": "cpu", "why": "native kernel, avx2", "calls": 70}},
        "scores": {"acc": 0.8765, "nmi": 0.5, "nmi_max": 0.45, "ari": 0.4},
        "label_free": {"silhouette": 0.31, "silhouette_rows": rows, "silhouette_seed": 0, "davies_bouldin": None},
        "seconds": {"pretrain": 1.0, "joint": 4.0},
        "command": "dcaccel fit dvae blobs.npy -k 4 --seed 3 --out runs/x",
        "created": "2026-10-01T12:30:11+00:00",
        "out": "runs/x",
    }
