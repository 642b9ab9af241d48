"""Gathers what the page shows from the results of a run, and writes the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.data import Data
from deepclust_accel.files import write_atomic
from deepclust_accel.report.content import ReportContent

__all__ = ["write"]

MAP_ROWS = 10_000  # more points than this only darken the map
EXAMPLES = 10


def write(
    folder: Path,
    record: dict[str, Any],
    history: list[dict],
    labels: np.ndarray,
    probabilities: np.ndarray,
    codes: np.ndarray,
    data: Data,
    truth: np.ndarray | None,
) -> Path:
    """Draw the page of a run and write it atomically as ``folder/report.html``; return its path.

    Args:
        labels (N,), probabilities (N, K), codes (N, Z), truth (N,) or None: of all rows, in row order.

    Raises:
        OutputError: the disk refuses.
    """
    from deepclust_accel.report import render

    rows, k = len(labels), probabilities.shape[1]
    sample = np.sort(np.random.default_rng(0).choice(rows, min(rows, MAP_ROWS), replace=False))
    nearest = _nearest_rows(codes, labels, k)
    shown = np.where(nearest < 0, 0, nearest)
    examples = data.source.take(shown.reshape(-1)).float().numpy().reshape(*nearest.shape, *data.source.spec.shape)
    content = ReportContent(
        run=record,
        history=history,
        labels=np.asarray(labels),
        confidence=np.asarray(probabilities).max(1),
        sample=sample,
        embedding=codes[sample],
        examples=examples,
        example_rows=nearest,
        truth=truth,
        image_shape=data.image_shape,
    )
    path = folder / "report.html"
    write_atomic(path, render(content).encode())
    return path


def _nearest_rows(codes: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(K, EXAMPLES) rows nearest to the mean code of their cluster, nearest first; -1 where a cluster has fewer."""
    nearest = np.full((k, EXAMPLES), -1, dtype=np.int64)
    for cluster in range(k):
        rows = np.flatnonzero(labels == cluster)
        if len(rows):
            distance = np.square(codes[rows] - codes[rows].mean(0)).sum(1)
            best = rows[np.argsort(distance, kind="stable")[:EXAMPLES]]
            nearest[cluster, : len(best)] = best
    return nearest
