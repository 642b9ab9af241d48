"""Some rows of a source, as a source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from deepclust_accel.data.source import DataSource

__all__ = ["Rows"]


class Rows:
    """The rows ``numbers`` (n,) int64 of a source, renumbered from 0."""

    def __init__(self, source: DataSource, numbers: np.ndarray):
        self._source, self._numbers = source, numbers
        self.spec = replace(source.spec, rows=len(numbers))

    def take(self, index: np.ndarray) -> Tensor:
        """Copy rows ``index`` (B,) int64 into a new (B, *shape) tensor of the stored dtype."""
        return self._source.take(self._numbers[index])
