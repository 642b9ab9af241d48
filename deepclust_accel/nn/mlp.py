"""Fully connected networks that can be run in slices, so that layers can be pretrained one by one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Mlp"]


class Mlp(nn.Module):
    """Linear layers with ReLU, or leaky ReLU, between them and a linear output.

    Args:
        widths: of input, hidden layers and output; at least two.
        slope: of the leaky ReLU below zero; 0 is ReLU.
        dropout: share of hidden values set to zero in training, after the activation.

    Initial weights are PyTorch's own for a linear layer.
    """

    def __init__(self, *widths: int, slope: float = 0.0, dropout: float = 0.0):
        super().__init__()
        self.slope, self.dropout = slope, dropout
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Run layers ``first`` … ``last`` - 1 (default: all); (B, …) is flattened to (B, D) before layer 0.

        Every layer but the network's last is followed by the activation, also at the end of a slice.
        """
        x = x.flatten(1) if first == 0 else x
        for number in range(first, len(self.layers) if last is None else last):
            x = self.layers[number](x)
            if number + 1 < len(self.layers):
                x = F.leaky_relu(x, self.slope) if self.slope else x.relu()
                x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return x
