"""Some rows of a source: as a source, and drawn at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from deepclust_accel.data.source import DataSource, known_rows

__all__ = ["Rows", "draw_rows"]

_BLOCKS = 16


class Rows:
    """The rows ``numbers`` (n,) int64 of a source, renumbered from 0."""

    def __init__(self, source: DataSource, numbers: np.ndarray):
        self._source, self._numbers = source, numbers
        self.spec = replace(source.spec, rows=len(numbers))

    def take(self, index: np.ndarray) -> Tensor:
        """Copy rows ``index`` (B,) int64 into a new (B, *shape) tensor of the stored dtype."""
        return self._source.take(self._numbers[index])


def draw_rows(source: DataSource, count: int, seed: int) -> np.ndarray:
    """Numbers (min(count, N),) int64 of random rows, ascending; of data in blocks from 16, or as many as it takes."""
    generator, blocks = np.random.default_rng(seed), getattr(source, "blocks", None)
    if blocks is None:
        rows = known_rows(source)
        return np.sort(generator.choice(rows, min(count, rows), replace=False, shuffle=False))
    order = generator.permutation(len(blocks.starts) - 1)
    reached = np.cumsum(np.diff(blocks.starts)[order])
    taken = order[: max(_BLOCKS, int(np.searchsorted(reached, count)) + 1)]
    rows = np.concatenate([np.arange(*blocks.starts[block : block + 2]) for block in taken])
    return np.sort(generator.choice(rows, min(count, len(rows)), replace=False, shuffle=False))
