"""Event files for TensorBoard: the terms of every epoch, what the machine did, and the health after every stage."""

from __future__ import annotations

from pathlib import Path

from deepclust_accel.engine.monitor import Watcher, logged
from deepclust_accel.errors import ArgumentError

__all__ = ["TensorBoard"]


class TensorBoard(Watcher):
    """Writes ``STAGE/TERM`` over the epochs of each stage into a folder, which is made when the first stage begins.

    A resumed run repeats the epochs after its last snapshot with the same values, so points may be there twice.

    Raises:
        ArgumentError: the package is missing.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as cause:
            raise ArgumentError(
                f"--tensorboard: expected the package tensorboard, got {cause}; pip install 'deepclust-accel[tensorboard]'"
            ) from cause
        self._make, self._writer = lambda: SummaryWriter(str(folder)), None
        self._stage, self._epoch = "", 0

    def begin_stage(self, number: int, total: int, name: str, epochs: int, steps: int, done: int) -> None:
        """Open the files, if they are not."""
        self._writer = self._writer or self._make()
        self._stage, self._epoch = name, done

    def end_epoch(self, record: dict) -> None:
        """Write the record."""
        self._epoch = record["epoch"] + 1
        self._put(logged(record))
        self._put({f"machine/{name}": value for name, value in record["machine"].items()})
        self._writer.flush()

    def end_stage(self, seconds: float, health: dict) -> None:
        """Write the health."""
        self._put({f"health/{name}": value for name, value in health.items()})

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _put(self, values: dict) -> None:
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(f"{self._stage}/{name}", value, self._epoch)
