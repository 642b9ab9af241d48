"""PNG pictures from arrays, without an imaging library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

__all__ = ["data_uri", "encode"]

_COLOR_TYPE = {1: 0, 3: 2, 4: 6}  # channels -> PNG's grey, RGB, RGB with alpha


def encode(pixels: np.ndarray) -> bytes:
    """Return the PNG of (H, W) or (H, W, 1 | 3 | 4) bytes; the same pixels always give the same file."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # a leading 0 on each line: no filter
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPE[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def data_uri(pixels: np.ndarray) -> str:
    """Return the picture as the value of a ``src`` attribute, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(encode(pixels)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
