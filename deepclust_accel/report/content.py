"""What a report is made of: plain arrays and records, however the run was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ReportContent"]


@dataclass(frozen=True)
class ReportContent:
    """Everything the page shows. N rows, S rows on the map, K clusters, M examples each, Z values a code.

    Of more rows than a page can count, N is a random part of them, and ``drawn_from`` how many there are.
    """

    run: dict  # run.json; missing entries are left out of the page
    history: list[dict]  # one record an epoch: stage, epoch, seconds, machine, and a number for each logged term
    labels: np.ndarray  # (N,) int64, cluster of every row
    confidence: np.ndarray  # (N,) float32, largest cluster probability of every row
    sample: np.ndarray  # (S,) which of the N rows are shown on the map, at most about 10,000
    embedding: np.ndarray  # (S, Z) their codes
    examples: np.ndarray  # (K, M, *shape) rows nearest to each cluster's center
    example_rows: np.ndarray  # (K, M) their row numbers, -1 where a cluster has fewer
    truth: np.ndarray | None  # (N,) labels given for scoring, any whole numbers
    image_shape: tuple | None  # (H, W), (H, W, C) or (C, H, W): examples are drawn as images
    drawn_from: int | None = None  # rows of the data, where N of them were drawn
