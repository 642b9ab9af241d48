"""K networks of one shape, run side by side in batched matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Experts"]


class Experts(nn.Module):
    """K fully connected networks with ReLU between their layers and a linear output.

    Args:
        count: K.
        widths: of input, hidden layers and output; at least two.

    Initial weights are distributed as PyTorch's own for a linear layer.
    """

    def __init__(self, count: int, *widths: int):
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in zip(widths, widths[1:], strict=False):
            bound = before**-0.5
            self.weights.append(nn.Parameter(torch.empty(count, before, after).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(count, 1, after).uniform_(-bound, bound)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) → (K, B, output): what every network makes of every row."""
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            if number + 1 < len(self.weights):
                x = x.relu()
        return x
