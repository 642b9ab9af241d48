"""A folder of images as rows: uint8 pixels, decoded a batch at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepclust_accel.data.extras import require
from deepclust_accel.data.paths import check_file, shown, translated
from deepclust_accel.data.source import DataSpec, ahead_rows
from deepclust_accel.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "ImageSource"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_AXES = {"L": (), "RGB": (3,)}


class ImageSource:
    """Rows (H, W) for grey or (H, W, 3) for colour images, uint8.

    Args:
        paths: In row order.
        part: Empty: all images have the size of the first, and are grey (L) or colour (RGB) as it is. ``32x48`` makes all of
            them 32 high and 48 wide, with three colours; ``32x48x1`` with one grey value.
        name: For messages.

    Cost: every epoch decodes every image again, in the thread that reads ahead; convert the folder to ``.npy`` where that
    is too slow.

    Raises:
        DataError: A damaged image, or one of another size or kind; at the first use of that image.
    """

    def __init__(self, paths: Sequence[Path], part: str, name: str):
        self._paths, self._size, self._mode, self._first = list(paths), None, "", ""
        match = re.fullmatch(r"(\d{1,4})x(\d{1,4})(?:x([13]))?", part)
        if part and (match is None or not int(match[1]) * int(match[2])):
            raise DataError(f"{name}: expected a size such as 32x32 or 32x32x1 after '::', got {part!r}; correct it")
        if match:
            self._size, self._mode = (int(match[2]), int(match[1])), "L" if match[3] == "1" else "RGB"
        first = self._pixels(paths[0])
        self._first = f"{first.shape[1]} x {first.shape[0]} pixels of kind {self._mode}, as in {paths[0].name}"
        self.spec = DataSpec(first.shape, len(paths))
        self.read_ahead = ahead_rows(first.nbytes)

    def take(self, index: np.ndarray) -> Tensor:
        """Decode images ``index`` (B,) int64 into a new (B, H, W) or (B, H, W, 3) uint8 tensor."""
        out = np.empty((len(index), *self.spec.shape), np.uint8)
        for place, number in enumerate(index):
            pixels = self._pixels(self._paths[number])
            if pixels.shape != self.spec.shape:
                raise self._other(self._paths[number], f"{pixels.shape[1]} x {pixels.shape[0]} pixels")
            out[place] = pixels
        return torch.from_numpy(out)

    def _pixels(self, path: Path) -> np.ndarray:
        pillow = require("PIL.Image", "images", shown(path))
        check_file(path)
        with translated(shown(path), path.suffix), pillow.open(path) as image:
            if self._size:
                return np.asarray(image.convert(self._mode).resize(self._size, pillow.Resampling.BILINEAR))
            if image.mode not in _AXES or self._mode not in ("", image.mode):
                raise self._other(path, f"kind {image.mode}")
            self._mode = image.mode
            return np.asarray(image)

    def _other(self, path: Path, got: str) -> DataError:
        return DataError(
            f"{shown(path)}: expected {self._first or 'grey (L) or colour (RGB)'}, got {got}; give "
            "a size for all, FOLDER::32x32 or, for grey, FOLDER::32x32x1"
        )
