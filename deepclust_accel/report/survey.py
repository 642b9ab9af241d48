"""What is kept of the codes of all rows: those of the rows on the map, and which rows are nearest to their cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["EXAMPLES", "Nearest", "Survey", "sample_rows"]

MAP_ROWS = 10_000  # more points than this only darken the map
EXAMPLES = 10


@dataclass(frozen=True)
class Survey:
    """Codes of S sampled rows, and the nearest rows of K clusters.

    Attributes:
        rows: (S,) int64 row numbers, ascending; all rows where there are at most 10,000.
        codes: (S, Z) float32.
        labels: (S,) int64 clusters of these rows.
        nearest: (K, EXAMPLES) int64 row numbers of all rows, see ``Nearest``.
    """

    rows: np.ndarray
    codes: np.ndarray
    labels: np.ndarray
    nearest: np.ndarray


def sample_rows(count: int) -> np.ndarray:
    """(S,) numbers of the rows that the map shows, ascending, always the same for a number of rows."""
    return np.sort(np.random.default_rng(0).choice(count, min(count, MAP_ROWS), replace=False))


class Nearest:
    """Finds, in one pass, the rows of each cluster whose codes are nearest to its middle.

    The middle is the mean code of the cluster's sampled rows; of a cluster without any, that of its rows in the first block
    that has some.

    Args:
        codes: (S, Z) of the sampled rows. labels: (S,) their clusters. k: K.

    Attributes:
        rows: (K, EXAMPLES) int64, nearest first, equals in row order; -1 where a cluster has fewer.
    """

    def __init__(self, codes: np.ndarray, labels: np.ndarray, k: int):
        self.rows = np.full((k, EXAMPLES), -1, dtype=np.int64)
        self._distances = np.full((k, EXAMPLES), np.inf)
        self._middles = np.zeros((k, codes.shape[1]), codes.dtype)
        self._known = np.zeros(k, dtype=bool)
        self._learn(codes, labels)

    def add(self, codes: np.ndarray, labels: np.ndarray, first: int) -> None:
        """Look at a block: codes (B, Z) and clusters (B,) of the rows from number ``first`` on."""
        self._learn(codes, labels)
        distances = np.square(codes - self._middles[labels]).sum(1)
        for i in np.flatnonzero(distances < self._distances[labels, -1]):
            cluster = labels[i]
            place = np.searchsorted(self._distances[cluster], distances[i], side="right")
            if place < EXAMPLES:  # rows before it in this block may have been nearer
                for kept, value in ((self._distances, distances[i]), (self.rows, first + i)):
                    kept[cluster, place + 1 :] = kept[cluster, place:-1].copy()
                    kept[cluster, place] = value

    def _learn(self, codes: np.ndarray, labels: np.ndarray) -> None:
        for cluster in np.unique(labels):
            if not self._known[cluster]:
                self._middles[cluster], self._known[cluster] = codes[labels == cluster].mean(0), True
