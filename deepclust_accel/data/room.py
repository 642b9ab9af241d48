"""Room for values of all rows: in memory as long as they are few, in a temporary file beyond.

What a method wants to know of every row at once (codes, targets, labels) is the only thing in a fit that grows with the
number of rows. Beyond 64 MiB it lives in a file that the system may write back and drop from memory at any time.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..errors import OutputError

__all__ = ["column_sums", "pieces", "room"]

_MOST_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20


def room(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """An uninitialised tensor; on the CPU and beyond 64 MiB a memory map of a file in the folder for temporary files.

    The file has no name, so nothing is left of it when the tensor is dropped or the process is killed. Set TMPDIR to place
    it elsewhere.

    Raises:
        OutputError: that folder has no room for it.
    """
    size = math.prod(shape) * dtype.itemsize
    if torch.device(device).type != "cpu" or size <= _MOST_BYTES:
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    try:
        with tempfile.NamedTemporaryFile(prefix="deepclust-accel-") as file:
            if hasattr(os, "posix_fallocate"):  # a map of a full disk would end the process with SIGBUS
                os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype).view(tuple(shape))
    except OSError as cause:
        raise OutputError(
            f"{tempfile.gettempdir()}: expected room for {size / 1e9:.1f} GB of temporary values, got {cause.strerror}; "
            f"free some, or set TMPDIR to a folder with more"
        ) from cause


def pieces(values: Tensor) -> Iterator[slice]:
    """Slices of rows, in order, that cover values (n, …) in pieces of about 4 MiB, so that temporaries stay small."""
    row = max(1, values[:1].numel() * values.element_size())
    step = max(1, _PIECE_BYTES // row)
    return (slice(start, start + step) for start in range(0, len(values), step))


def column_sums(values: Tensor) -> Tensor:
    """Sum over the rows of values (n, …), in float64; ``sum(0, dtype=float64)`` would convert all of them first."""
    total = values.new_zeros(values.shape[1:], dtype=torch.float64)
    for rows in pieces(values):
        total += values[rows].sum(0, dtype=torch.float64)
    return total
