"""How methods for images learn what a row looks like, and how they augment it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.base import DataSpec, Params, param
from deepclust_accel.nn.images import ImageLayout, distort

__all__ = ["AugmentationParams", "ImageParams", "augmented", "image_layout", "require_images"]


@dataclass
class ImageParams(Params):
    """Settings of methods that can look at rows as images."""

    image_shape: tuple[int, ...] = param(
        (),
        "a row as an image: H,W or H,W,C or C,H,W (C of 1, 3 or 4); none given: what the data set's entry says, or the axes "
        "of the rows",
        unit="pixels",
        low=1,
    )


@dataclass
class AugmentationParams(ImageParams):
    """Settings of random distortions."""

    rotation: float = param(10.0, "augmentation: largest rotation", unit="degrees", low=0, high=180)
    shift: float = param(0.1, "augmentation: largest shift, share of the side", low=0, high=1)
    zoom: float = param(0.0, "augmentation: largest relative change of size", low=0, high=0.9)
    shear: float = param(0.0, "augmentation: largest angle of shear", unit="degrees", low=0, high=80)


def image_layout(params: ImageParams, data: DataSpec) -> ImageLayout | None:
    """How a row is an image: by the setting, else by the data's entry, else by its axes; None where it is none.

    Raises ArgumentError for a setting that is no image shape or does not fit the row.
    """
    shape = tuple(params.image_shape) or data.image_shape or tuple(data.shape)
    layout = ImageLayout.of(shape)
    values = 1
    for n in data.shape:
        values *= n
    if params.image_shape and (layout is None or layout.values != values):
        raise ArgumentError(
            f"image_shape: expected H,W or H,W,C or C,H,W of {values} values in all, got {','.join(map(str, shape))}"
        )
    return layout


def require_images(params: ImageParams, data: DataSpec, method: str) -> ImageLayout:
    """The layout; ArgumentError where rows are not known to be images."""
    layout = image_layout(params, data)
    if layout is None:
        raise ArgumentError(
            f"image_shape: expected that of a row, since {method} looks at images, got rows of shape {tuple(data.shape)}; "
            f"set image_shape=H,W or give the rows as (N, H, W)"
        )
    return layout


def augmented(params: AugmentationParams, layout: ImageLayout, x: Tensor, run: Run) -> Tensor:
    """Rows (B, *shape) with a random distortion each, in their shape."""
    images = distort(
        layout.to_images(x),
        run.per_row(lambda g, n: torch.rand(5, n, generator=g, device=x.device), 1),
        rotation=params.rotation,
        shift=params.shift,
        zoom=params.zoom,
        shear=params.shear,
    )
    return layout.to_rows(images).reshape(x.shape)
