"""Reading ahead: one thread draws from an iterator while the items drawn before are being used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["read_ahead"]

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Yield ``items`` in order, while a thread draws up to ``depth`` of them in advance.

    What the iterator raises is raised here, after the items before it. The thread starts with the first item asked for and
    has ended when this generator has: at the last item, at an error, or when it is closed, after the item being drawn.
    """
    drawn: SimpleQueue = SimpleQueue()  # of (item, error, end)
    free, stopped = threading.Semaphore(depth), threading.Event()

    def draw() -> None:
        try:
            for item in items:
                drawn.put((item, None, False))
                free.acquire()
                if stopped.is_set():
                    return
            drawn.put((None, None, True))
        except BaseException as cause:  # noqa: BLE001 - it belongs to the thread that asked
            drawn.put((None, cause, True))

    thread = threading.Thread(target=draw, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, cause, end = drawn.get()
            if cause is not None:
                raise cause
            if end:
                return
            free.release()
            yield item
    finally:
        stopped.set()
        free.release()
        thread.join()
