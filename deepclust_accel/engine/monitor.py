"""History of a run and the ways to watch it: nothing, one line an epoch, or progress bars on a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from deepclust_accel.errors import OutputError

__all__ = ["Bars", "History", "Lines", "Watcher", "logged", "together", "watcher"]


class History:
    """Records of finished epochs, kept in memory and appended to a JSONL file when one is given.

    A record holds ``stage``, ``epoch`` (0-based), ``seconds``, ``machine`` (see :meth:`meter.Meter.read`) and the mean of
    every logged term.
    """

    def __init__(self, path: Path | None = None):
        self.records: list[dict] = []
        self._path = path

    def restart(self, records: list[dict]) -> None:
        """Replace everything, in the file as well; used at the start (empty) and when a run is resumed."""
        self.records[:] = records
        if self._path:
            _write(self._path, "".join(json.dumps(r) + "\n" for r in records), "w")

    def append(self, record: dict) -> None:
        """Add one record; OutputError when the file cannot be written."""
        self.records.append(record)
        if self._path:
            _write(self._path, json.dumps(record) + "\n", "a")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as cause:
        raise OutputError(
            f"{path}: expected a writable file, got {cause.strerror}; free space or choose another --out"
        ) from cause


class Watcher:
    """What the engine tells while it works; this one shows nothing."""

    def begin_stage(self, number: int, total: int, name: str, epochs: int, steps: int, done: int) -> None:
        """A stage starts: its number of ``total``, its epochs (0 for a pass), steps per epoch, and epochs already done."""

    def reused(self, origin: str) -> None:
        """The stage that has begun needs no training: its result is at hand."""

    def step(self) -> None:
        """A step is done."""

    def end_epoch(self, record: dict) -> None:
        """An epoch is done; ``record`` is its line in the history."""

    def end_stage(self, seconds: float, health: dict) -> None:
        """The stage is done, in all its sessions together after ``seconds``; what was found when it was looked at."""

    def close(self) -> None:
        """The run has ended, well or not; always the last call."""


def together(*watchers: Watcher) -> Watcher:
    """A watcher that tells all of these what it is told."""

    def tell(name: str) -> Callable[..., None]:
        return lambda *facts: [getattr(each, name)(*facts) for each in watchers]

    both = Watcher()
    for name in ("begin_stage", "reused", "step", "end_epoch", "end_stage", "close"):
        setattr(both, name, tell(name))
    return both


class Lines(Watcher):
    """One line an epoch, for logs and pipes."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._label, self._epochs = "", 0

    def begin_stage(self, number: int, total: int, name: str, epochs: int, steps: int, done: int) -> None:
        """Name the stage."""
        self._label, self._epochs = f"[{number}/{total}] {name}", epochs
        if not epochs:
            self._say(f"{self._label} …")

    def reused(self, origin: str) -> None:
        """Print where the result is from."""
        self._say(f"{self._label} taken from {origin}")

    def end_epoch(self, record: dict) -> None:
        """Print the means of the epoch."""
        self._say(
            f"{self._label} epoch {record['epoch'] + 1}/{self._epochs}  {terms(record)}  {record['seconds']:.1f} s  "
            f"{_machine(record)}"
        )

    def end_stage(self, seconds: float, health: dict) -> None:
        """Print how long the stage took, and how the method is."""
        self._say("  ".join(filter(None, (f"{self._label} done in {seconds:.1f} s", terms(health)))))

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Bars(Watcher):
    """One live bar a stage on a terminal, left in place with its time when the stage ends."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._steps, self._done, self._shown = 1, 0, 0.0
        self._progress = None

    def begin_stage(self, number: int, total: int, name: str, epochs: int, steps: int, done: int) -> None:
        """Open a bar that counts epochs."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._steps, self._done = max(1, steps), done * max(1, steps)
        count = TextColumn("{task.completed:.0f}/{task.total} epochs") if epochs else TextColumn("")
        self._progress = Progress(
            TextColumn(f"[{number}/{total}] {name:<18}", markup=False),
            BarColumn(30),
            count,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(file=self._stream),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(name, total=epochs or 1, completed=done, loss="")
        self._progress.start()

    def reused(self, origin: str) -> None:
        """Print where the result is from, above the bar."""
        self._progress.console.print(f"taken from {origin}", markup=False, highlight=False)

    def step(self) -> None:
        """Move the bar by a fraction of an epoch, at most a few times a second."""
        self._done += 1
        if time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            self._progress.update(self._task, completed=self._done / self._steps)

    def end_epoch(self, record: dict) -> None:
        """Show the loss of the epoch and how it went; the other terms are in the history."""
        self._done = (record["epoch"] + 1) * self._steps
        losses = {name: value for name, value in record.items() if name.startswith("loss")}
        self._progress.update(self._task, completed=record["epoch"] + 1, loss=f"{terms(losses)}  {_machine(record)}")

    def end_stage(self, seconds: float, health: dict) -> None:
        """Complete the bar and leave it on the screen."""
        self._progress.update(self._task, completed=self._progress.tasks[0].total)
        self.close()

    def close(self) -> None:
        """Give the terminal back: its cursor, and its plain output streams."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def watcher(stream: TextIO | None, quiet: bool = False) -> Watcher:
    """Bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet or stream is None:  # None: stderr was closed before we started
        return Watcher()
    return Bars(stream) if stream.isatty() else Lines(stream)


def terms(record: dict) -> str:
    """Return the logged terms of a record as short text."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logged(record).items() if value is not None)


def logged(record: dict) -> dict:
    """The logged terms of a record, which equal runs have equal, without when and how they were found."""
    return {name: value for name, value in record.items() if name not in ("stage", "epoch", "seconds", "machine")}


def _machine(record: dict) -> str:
    facts = record["machine"]
    parts = [f"{facts['rows_per_second']:,.0f} rows/s", f"{facts['wait_share']:.0%} waiting for rows"]
    held = (("memory", ""), ("device_memory", " on the device"))
    parts += [f"{facts[name] / 2**20:,.0f} MiB{where}" for name, where in held if name in facts]
    return "  ".join(parts)
