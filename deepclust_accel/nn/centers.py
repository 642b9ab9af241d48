"""Trainable cluster centers with a soft assignment: by a Student-t kernel (DEC), or by a softmax of distances (DKM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepclust_accel import ops

__all__ = ["SoftminCenters", "StudentCenters"]


class StudentCenters(nn.Module):
    """K centers as parameters; called with codes it gives their assignment (Xie et al. 2016, eq. 1).

    Attributes:
        positions (K, Z): parameter.
    """

    def __init__(self, n_clusters: int, latent: int, dof: float = 1.0):
        super().__init__()
        self.positions, self.dof = nn.Parameter(torch.zeros(n_clusters, latent)), dof

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, K) float32 probabilities by a Student-t kernel of the distance to each center."""
        return ops.soft_assign(z, self.positions, dof=self.dof)


class SoftminCenters(nn.Module):
    """K centers as parameters, assigned by softmax(-α d), d the squared distance (Moradi Fard et al. 2020, eq. 4).

    Attributes:
        positions (K, Z): parameter.
    """

    def __init__(self, n_clusters: int, latent: int):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(n_clusters, latent))

    def forward(self, z: Tensor, alpha: Tensor | float) -> tuple[Tensor, Tensor]:
        """(B, Z) → probabilities (B, K) and squared distances (B, K), O(B K Z) memory, in the centers' precision."""
        with torch.autocast(z.device.type, enabled=False):
            # true differences: α of 1000 would blow up what cancellation leaves of a product
            distance = (z.to(self.positions.dtype)[:, None] - self.positions).square().sum(-1)
            return torch.softmax(-alpha * distance, 1), distance
