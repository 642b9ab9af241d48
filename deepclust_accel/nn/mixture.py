"""A trainable mixture of diagonal Gaussians in the latent space: the prior of VaDE and DVAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DiagonalMixture"]


class DiagonalMixture(nn.Module):
    """p(c = k) = softmax(logits)_k and p(z | c = k) = N(mean_k, diag exp(log_variance_k)).

    Attributes:
        logits (K,), mean (K, Z), log_variance (K, Z): parameters.
    """

    def __init__(self, n_clusters: int, latent: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.mean = nn.Parameter(torch.zeros(n_clusters, latent))
        self.log_variance = nn.Parameter(torch.zeros(n_clusters, latent))

    def forward(self, mu: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
        """Compare Gaussians N(mu_i, exp(log_variance_i)) with every component.

        Returns:
            A (N, K), A_ik = Σ_m [log σ²_km + (exp(log_variance_im) + (mu_im - mean_km)²) / σ²_km]   (Ma 2022, eq. 3.6)
            log π (K,).
        """
        precision = torch.exp(-self.log_variance)
        spread = log_variance.exp() @ precision.T
        distance = ((mu[:, None] - self.mean).square() * precision).sum(-1)
        return self.log_variance.sum(-1) + spread + distance, torch.log_softmax(self.logits, 0)

    @torch.no_grad()
    def set_from_clusters(self, z: Tensor, labels: Tensor, floor: float = 1e-6) -> None:
        """Take shares, means and per-dimension variances from hard clusters of z (N, Z); empty ones keep their mean."""
        for k in range(len(self.mean)):
            rows = z[labels == k]
            self.logits[k] = torch.log(torch.tensor(max(len(rows), 1) / max(len(z), 1)))
            if len(rows):
                self.mean[k] = rows.mean(0)
                self.log_variance[k] = rows.var(0, unbiased=False).clamp_min(floor).log()
