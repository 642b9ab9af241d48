"""Memory of this process and of a device: the most that was held, and how to begin counting anew."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

__all__ = ["device_peak", "forget_peak", "large_blocks_apart", "peak", "resident"]

_STATUS = Path("/proc/self/status")
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


def peak() -> int | None:
    """Most bytes this process has held, libraries and mapped files included; None where that is not known.

    On Linux of this program alone: `ru_maxrss` hands the peak of a parent on to a child across exec.
    """
    if _STATUS.exists():
        return _status("VmHWM")
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> int:
    """Bytes this process holds now (Linux)."""
    return _status("VmRSS")


def device_peak(device: torch.device) -> int | None:
    """Most bytes that tensors have held on a CUDA device; None on others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def forget_peak(device: torch.device | None = None) -> None:
    """Give freed blocks back to the system (they would be used again unseen) and forget the peaks so far.

    Does so for RAM where Linux allows it; elsewhere peaks are those since the start.
    """
    gc.collect()
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if not _STATUS.exists():
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with suppress(OSError):  # some containers do not let a process do so
        Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Blocks of 1 MiB and more come from the system and go back to it when freed (glibc), as those above 32 MiB always do.

    Arrays over a part of the rows then take what arrays over all rows would; else the heap keeps the freed ones.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # where glibc arrives by itself in a fit


def _status(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in {_STATUS}")
