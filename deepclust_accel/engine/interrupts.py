"""Ctrl-C and SIGTERM: the first one waits for the end of the epoch, so that a snapshot can be taken there."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]

_WAITING = b"\nstopping at the end of this epoch, to resume from there; once more stops at once\n"


class Interrupts:
    """Catches SIGINT and SIGTERM inside a ``with`` block; only the main thread of a process can.

    A signal is put off while ``patient`` is true, the second one no more (of several processes: unless it follows within
    two seconds, since torchrun repeats what the terminal has sent).

    Attributes:
        patient: whether a signal can wait.
        got: the number of the signal that waits; 0 for none.
    """

    def __init__(self, active: bool, world_size: int = 1):
        self._echo = 2.0 if world_size > 1 else 0.0
        self.patient, self.got, self._at = False, 0, 0.0
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if self._active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, number: int) -> None:
        """Raise what a signal means: KeyboardInterrupt, or SystemExit(143) for SIGTERM; nothing for 0."""
        if number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if number:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.got) and time.monotonic() - self._at > self._echo
        self.got = number
        if again or not self.patient:
            self.check(number)
        self._at = time.monotonic()
        os.write(2, _WAITING)  # print is not safe in a handler
