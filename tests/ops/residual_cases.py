"""Inputs for the tests of residual_block: one table, the block as a user would write it, and one with nothing but loops."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

LAST = torch.channels_last


def eager(x, weight1, bias1, weight2, bias2):
    """The block in two lines of PyTorch."""
    layer = F.linear if x.dim() == 2 else lambda *a: F.conv2d(*a, padding=1)
    return torch.relu(x + layer(torch.relu(layer(x, weight1, bias1)), weight2, bias2))


def by_loops(x, weight, bias):
    """A 3 x 3 convolution of numpy arrays as the definition reads."""
    n, c, h, w = x.shape
    y = np.zeros_like(x)
    for image, out, i, j in np.ndindex(n, c, h, w):
        y[image, out, i, j] = bias[out] + sum(
            weight[out, k, a, b] * x[image, k, i + a - 1, j + b - 1]
            for k, a, b in np.ndindex(c, 3, 3)
            if 0 <= i + a - 1 < h and 0 <= j + b - 1 < w
        )
    return y


@dataclass(frozen=True)
class Case:
    """Arguments of a shape, (N, C, H, W) or (N, C), and a gradient of the result."""

    shape: tuple[int, ...]
    last: bool = False  # x and the gradient channels last
    strided: bool = False  # x and the gradient in neither layout
    weights_last: bool = False

    def __str__(self):
        marks = ("last", "strided", "weights_last")
        return "-".join(["x".join(map(str, self.shape)), *(mark for mark in marks if getattr(self, mark))])

    def inputs(self, dtype, device="cpu"):
        """x, the parameters, and the gradient; of magnitudes that neither grow nor vanish from layer to layer."""
        g = torch.Generator().manual_seed(sum(31**i * size for i, size in enumerate(self.shape)))
        channels, around = self.shape[1], (3, 3) if len(self.shape) == 4 else ()

        def draw(*shape, scale=1.0):
            return (torch.randn(shape, generator=g) * scale).to(device, dtype)

        scale = (channels * len(around) * 1.5 or channels) ** -0.5
        weights = [draw(channels, channels, *around, scale=scale) for _ in range(2)]
        if self.weights_last:
            weights = [weight.contiguous(memory_format=LAST) for weight in weights]
        images = [self.laid_out(draw(*self.shape)) for _ in range(2)]
        return images[0], weights[0], draw(channels), weights[1], draw(channels), images[1]

    def laid_out(self, x):
        if self.strided:
            return torch.stack([x, x + 1], -1)[..., 0]
        return x.contiguous(memory_format=LAST) if self.last else x


# The kernel's own convolutions take multiples of 32 channels, images of 2 x 2 or from 4 x 4, and 32 tiles or more;
# with 96 channels and few images it sums gradients of weights with all threads, else image by image.
OWN = [
    *(Case((n, 32, h, h), last=last) for n, h in ((40, 2), (8, 4), (3, 8), (2, 16)) for last in (False, True)),
    Case((70, 64, 2, 2), weights_last=True),
    Case((5, 32, 7, 9), last=True, weights_last=True),
    Case((9, 96, 6, 8)),
    Case((9, 96, 6, 8), strided=True),
    Case((150, 64, 4, 4), last=True),
    Case((1, 32, 25, 40)),
    Case((2, 32, 64, 65)),
]
OTHER = [
    *(Case((4, c, h, h), last=last) for c, h in ((1, 1), (3, 2), (7, 5), (64, 1)) for last in (False, True)),
    *(
        Case(shape)
        for shape in ((1, 3, 16, 16), (33, 64, 2, 1), (2, 7, 1, 9), (3, 64, 3, 3), (2, 1, 4, 6), (0, 3, 4, 4))
    ),
    *(Case(shape, strided=True) for shape in ((3, 7, 5, 4), (2, 16, 6, 6))),
    *(Case(shape) for shape in ((1, 1), (5, 3), (300, 64), (0, 4))),
    Case((70, 48), strided=True),
    Case((40, 16, 12, 5), last=True, weights_last=True),
]
CASES = OWN + OTHER
