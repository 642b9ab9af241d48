"""Rows as images: which axis is what, and random affine distortions of a batch on its device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ImageLayout", "ToImages", "ToRows", "distort"]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImageLayout:
    """How a row of values is an image.

    Attributes:
        channels, height, width: of the image.
        channels_last: the row is (H, W, C), not (C, H, W).
    """

    channels: int
    height: int
    width: int
    channels_last: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> ImageLayout | None:
        """From (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4, the last axis first; None for anything else."""
        if len(shape) == 2:
            return cls(1, *shape)
        if len(shape) == 3 and shape[2] in _CHANNELS:
            return cls(shape[2], shape[0], shape[1], True)
        if len(shape) == 3 and shape[0] in _CHANNELS:
            return cls(*shape)
        return None

    @property
    def values(self) -> int:
        """Values of a row."""
        return self.channels * self.height * self.width

    def to_images(self, rows: Tensor) -> Tensor:
        """(B, …) of a row's values → (B, C, H, W), a view."""
        if self.channels_last:
            return rows.reshape(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)
        return rows.reshape(-1, self.channels, self.height, self.width)

    def to_rows(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, D), values in the order of the rows."""
        return (images.permute(0, 2, 3, 1) if self.channels_last else images).flatten(1)


class ToImages(nn.Module):
    """First module of a network on images whose rows come as they are stored."""

    def __init__(self, layout: ImageLayout):
        super().__init__()
        self.layout = layout

    def forward(self, rows: Tensor) -> Tensor:
        """(B, …) → (B, C, H, W)."""
        return self.layout.to_images(rows)


class ToRows(nn.Module):
    """Last module of a network that makes images."""

    def __init__(self, layout: ImageLayout):
        super().__init__()
        self.layout = layout

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, D)."""
        return self.layout.to_rows(images)


def distort(
    images: Tensor,
    drawn: Tensor,
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    zoom: float = 0.0,
    shear: float = 0.0,
) -> Tensor:
    """Give every image a random affine distortion of its own; what comes into view is the nearest pixel of the edge.

    Args:
        images: (B, C, H, W).
        drawn: (5, B), or (5, 1) for all, random numbers evenly distributed between 0 and 1.
        rotation: largest angle, degrees.
        shift: largest shift along each axis, as a share of its length.
        zoom: largest relative change of size.
        shear: largest angle of shear, degrees.

    Cost: O(B C H W), bilinear.
    """
    height, width = images.shape[2:]
    drawn = (drawn * 2 - 1).expand(-1, len(images))
    angle, lean = drawn[0] * math.radians(rotation), torch.tan(drawn[1] * math.radians(shear))
    size, right, down = 1 + drawn[2] * zoom, 2 * shift * drawn[3], 2 * shift * drawn[4]
    cos, sin, aspect = torch.cos(angle) / size, torch.sin(angle) / size, height / width
    # the grid's unit is half an axis, so that a rotation of an oblong image has to know its aspect
    first = torch.stack([cos, (lean * cos - sin) * aspect, right], 1)
    second = torch.stack([sin / aspect, lean * sin + cos, down], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
