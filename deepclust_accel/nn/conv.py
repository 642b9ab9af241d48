"""Convolutional encoders and their mirrors for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvDecoder", "ConvEncoder", "halvings", "upsampling"]


def halvings(size: tuple[int, int], times: int) -> list[tuple[int, int]]:
    """Sizes (H, W) before, between and after ``times`` layers of stride 2 that round up."""
    sizes = [size]
    for _ in range(times):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


def upsampling(before: int, after: int, kernel: int, to: tuple[int, int]) -> nn.ConvTranspose2d:
    """A transposed convolution of stride 2 that undoes a halving to the size it came from (odd kernels)."""
    even = tuple(int(n % 2 == 0) for n in to)
    return nn.ConvTranspose2d(before, after, kernel, 2, kernel // 2, output_padding=even)


class ConvEncoder(nn.Module):
    """Convolutions of stride 2 with (leaky) ReLU after each, then one linear layer.

    Args:
        shape: (C, H, W) of an image.
        channels, kernels: of each convolution; kernels are odd.
        latent: width of the code.
        slope: of the leaky ReLU below zero; 0 is ReLU.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: Sequence[int],
        kernels: Sequence[int],
        latent: int,
        slope: float = 0.0,
    ):
        super().__init__()
        self.slope, widths, sizes = slope, (shape[0], *channels), halvings(shape[1:], len(channels))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, k, 2, k // 2) for a, b, k in zip(widths, widths[1:], kernels, strict=False)
        )
        self.head = nn.Linear(widths[-1] * sizes[-1][0] * sizes[-1][1], latent)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, Z)."""
        return self.layers(images)[-1]

    def layers(self, images: Tensor, corrupt: Callable[[int, Tensor], Tensor] | None = None) -> list[Tensor]:
        """What every layer makes of images, the code last; ``corrupt(number, input)`` comes before each layer."""
        found = []
        for number, layer in enumerate([*self.convolutions, self.head]):
            x = found[-1] if found else images
            x = corrupt(number, x) if corrupt else x
            last = layer is self.head
            found.append(layer(x.flatten(1)) if last else F.leaky_relu(layer(x), self.slope))
        return found


class ConvDecoder(nn.Module):
    """The mirror of :class:`ConvEncoder`: linear, then transposed convolutions, (leaky) ReLU between all of them."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: Sequence[int],
        kernels: Sequence[int],
        latent: int,
        slope: float = 0.0,
    ):
        super().__init__()
        self.slope, widths, sizes = slope, (shape[0], *channels), halvings(shape[1:], len(channels))
        self.smallest = (widths[-1], *sizes[-1])
        self.head = nn.Linear(latent, widths[-1] * sizes[-1][0] * sizes[-1][1])
        self.convolutions = nn.ModuleList(
            upsampling(widths[i + 1], widths[i], kernels[i], sizes[i]) for i in reversed(range(len(channels)))
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, C, H, W)."""
        return self.layers(z)[0]

    def layers(self, z: Tensor) -> list[Tensor]:
        """The images, then the decoder's version of the output of each convolution of the encoder, the first one first."""
        found = [F.leaky_relu(self.head(z).view(-1, *self.smallest), self.slope)]
        for layer in self.convolutions:
            x = layer(found[0])
            found.insert(0, x if layer is self.convolutions[-1] else F.leaky_relu(x, self.slope))
        return found
