"""How fast an epoch went and what it was waiting for: facts of the machine, never the same twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from deepclust_accel.data.source import Batch
from deepclust_accel.engine import memory

__all__ = ["Meter"]


class Meter:
    """Counts rows, and the time until each batch is there, from when it is made."""

    def __init__(self):
        self._begin, self._waited, self._rows = time.perf_counter(), 0.0, 0

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they come."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            self._rows += batch.total
            yield batch

    def read(self, device: torch.device) -> dict[str, float | int]:
        """Facts so far.

        Returns:
            - ``rows_per_second``: of all ranks together.
            - ``wait_share``: part of the time in which the loop waited for its next batch (drawn, read, scaled, moved).
            - ``memory``: most bytes this process has held since it started; left out where that is not known.
            - ``device_memory``: most bytes of tensors on a CUDA device; left out on others.
        """
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        facts = {"rows_per_second": round(self._rows / seconds, 1), "wait_share": round(self._waited / seconds, 4)}
        held = {"memory": memory.peak(), "device_memory": memory.device_peak(device)}
        return facts | {name: count for name, count in held.items() if count is not None}
