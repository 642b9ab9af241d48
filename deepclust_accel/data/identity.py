"""Recognising the same rows again, wherever they lie."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from deepclust_accel.data.source import DataSource, known_rows

__all__ = ["fingerprint"]

_HASH_BYTES = 64 << 20  # data up to this size are hashed whole; 64 MiB take about 0.1 s
_HASH_ROWS = 4096
_HASH_BLOCKS = 16


def fingerprint(source: DataSource) -> str:
    """Hash of shape, stored dtype and content, to recognise the same data again: 32 hexadecimal digits.

    Data up to 64 MiB are hashed whole. Of larger data at most 4096 evenly spaced rows (first and last among them) are
    hashed, 64 MiB at most, so a change of other rows goes unnoticed. Equal content gives equal hashes whether it lies
    in an array, a memory map, a tensor or a file of any format. From larger data that come in blocks the rows are picked
    in 16 blocks, first and last among them, so that it need not be read whole.

    Raises:
        DataError: The source has no known number of rows.
    """
    rows = known_rows(source)
    first = source.take(np.zeros(1, dtype=np.int64))
    row_bytes = max(1, first.numel() * first.element_size())
    if rows * row_bytes <= _HASH_BYTES:
        picked = np.arange(rows, dtype=np.int64)
    else:
        count = max(2, min(_HASH_ROWS, _HASH_BYTES // row_bytes))
        picked = _spread(source, rows, count)
    digest = hashlib.blake2b(repr((rows, tuple(source.spec.shape), str(first.dtype))).encode(), digest_size=16)
    step = max(1, (1 << 20) // row_bytes)
    for start in range(0, len(picked), step):
        part = source.take(picked[start : start + step]).cpu().contiguous()
        digest.update(part.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _spread(source: DataSource, rows: int, count: int) -> np.ndarray:
    blocks = getattr(source, "blocks", None)
    if blocks is None:
        return np.linspace(0, rows - 1, count).astype(np.int64)
    looked = np.unique(np.linspace(0, len(blocks.starts) - 2, _HASH_BLOCKS).astype(np.int64))
    each = max(2, count // len(looked))
    ends = zip(blocks.starts[looked], blocks.starts[looked + 1] - 1, strict=True)
    return np.concatenate([np.unique(np.linspace(first, last, each).astype(np.int64)) for first, last in ends])
