"""Networks of residual blocks for images of any size or plain vectors: encoder, decoder and discriminator of DCFAE."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from deepclust_accel import ops
from deepclust_accel.nn.conv import halvings, upsampling

__all__ = ["ResidualBlock", "ResidualDecoder", "ResidualEncoder", "glorot"]


class ResidualBlock(nn.Module):
    """relu(x + layer(relu(layer(x)))), both layers 3 x 3 convolutions, or linear.

    Args:
        width: channels of x, or its values.
        dense: linear layers.
    """

    def __init__(self, width: int, dense: bool):
        super().__init__()
        shape = (width, width) if dense else (width, width, 3, 3)
        self.weight1, self.weight2 = (nn.Parameter(torch.empty(shape)) for _ in range(2))
        self.bias1, self.bias2 = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        for weight in (self.weight1, self.weight2):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, C) where dense, → the same shape."""
        return ops.residual_block(x, self.weight1, self.bias1, self.weight2, self.bias2)


class ResidualEncoder(nn.Module):
    """Halving layers with ReLU, a residual block after each, and linear heads.

    Args:
        shape: (C, H, W) of an image, or (D,) for vectors.
        channels: after each halving; for vectors the widths of linear layers.
        outputs: widths of the heads.
        residual: with residual blocks.
    """

    def __init__(self, shape: tuple[int, ...], channels: Sequence[int], outputs: Sequence[int], residual: bool = True):
        super().__init__()
        dense, widths = len(shape) == 1, (shape[0], *channels)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layer = nn.Linear(before, after) if dense else nn.Conv2d(before, after, 3, 2, 1)
            layers += [layer, nn.ReLU(), *([ResidualBlock(after, dense)] if residual else [])]
        self.body = nn.Sequential(*layers)
        area = 1 if dense else prod(halvings(shape[1:], len(channels))[-1])
        self.heads = nn.ModuleList(nn.Linear(widths[-1] * area, width) for width in outputs)
        self.apply(glorot)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, *shape) → (B, output) of each head."""
        features = self.body(x).flatten(1)
        return tuple(head(features) for head in self.heads)


class ResidualDecoder(nn.Module):
    """The mirror of :class:`ResidualEncoder`, with a last 3 x 3 convolution, or linear layer, to the values."""

    def __init__(self, shape: tuple[int, ...], channels: Sequence[int], latent: int, residual: bool = True):
        super().__init__()
        dense, widths = len(shape) == 1, (channels[0], *channels)
        sizes = None if dense else halvings(shape[1:], len(channels))
        self.smallest = (widths[-1],) if dense else (widths[-1], *sizes[-1])
        layers: list[nn.Module] = [nn.Linear(latent, prod(self.smallest)), nn.Unflatten(1, self.smallest), nn.ReLU()]
        for number in reversed(range(len(channels))):
            before, after = widths[min(number + 2, len(channels))], widths[number + 1]
            layer = nn.Linear(before, after) if dense else upsampling(before, after, 3, sizes[number])
            layers += [layer, nn.ReLU(), *([ResidualBlock(after, dense)] if residual else [])]
        layers.append(nn.Linear(channels[0], shape[0]) if dense else nn.ConvTranspose2d(channels[0], shape[0], 3, 1, 1))
        self.body = nn.Sequential(*layers)
        self.apply(glorot)

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, *shape), unbounded."""
        return self.body(z)


def glorot(module: nn.Module) -> None:
    """Glorot's uniform weights and zero biases for linear and convolutional layers; for ``Module.apply``."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
