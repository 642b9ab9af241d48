"""Fully connected networks that can be run in slices, so that layers can be pretrained one by one."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Mlp"]


class Mlp(nn.Module):
    """Linear layers with ReLU between them and a linear output.

    Args:
        widths: of input, hidden layers and output; at least two.

    Initial weights are PyTorch's own for a linear layer.
    """

    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Run layers ``first`` … ``last`` - 1 (default: all); (B, …) is flattened to (B, D) before layer 0.

        Every layer but the network's last is followed by ReLU, also at the end of a slice.
        """
        x = x.flatten(1) if first == 0 else x
        for number in range(first, len(self.layers) if last is None else last):
            x = self.layers[number](x)
            if number + 1 < len(self.layers):
                x = x.relu()
        return x
