"""A trainable mixture of diagonal Gaussians in the latent space: the prior of VaDE and DVAE."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel import ops

__all__ = ["DiagonalMixture"]

_ROWS = 1 << 16  # handled together when the mixture is taken from clusters


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

    def forward(self, mu: Tensor, log_variance: Tensor, log_gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Divergence of q(z, c | x) = N(mu_i, exp(log_variance_i)) γ_ic from this mixture, in its two parts.

        Args:
            mu, log_variance: (N, Z) of the Gaussians.
            log_gamma: (N, K) log-probabilities of the clusters.

        Returns:
            (N,) Σ_k γ_ik KL(N_i ‖ N_k) and (N,) KL(γ_i ‖ π), both ≥ 0; the terms of Ma 2022, eq. 3.6 without the
            reconstruction (VaDE, eq. 12). Cost O(N K Z) time and memory. Computed in the precision of the parameters,
            also under autocast.
        """
        with torch.autocast(self.mean.device.type, enabled=False):
            return self._divergence(*(x.to(self.mean.dtype) for x in (mu, log_variance, log_gamma)))

    def _divergence(self, mu: Tensor, log_variance: Tensor, log_gamma: Tensor) -> tuple[Tensor, Tensor]:
        gamma = log_gamma.exp()
        precision = torch.exp(-self.log_variance)
        distance = ((mu[:, None] - self.mean).square() * precision).sum(-1)
        energy = self.log_variance.sum(-1) + log_variance.exp() @ precision.T + distance  # A_ik
        kl_gaussian = 0.5 * (gamma * energy).sum(1) - 0.5 * (1 + log_variance).sum(1)
        kl_cluster = (gamma * (log_gamma - torch.log_softmax(self.logits, 0))).sum(1)
        return kl_gaussian, kl_cluster

    def posterior(self, z: Tensor) -> Tensor:
        """(N, Z) → (N, K) log p(c | z), by Bayes' rule (VaDE, eq. 16)."""
        return ops.mixture_posterior(z, torch.log_softmax(self.logits, 0), self.mean, self.log_variance)

    @torch.no_grad()
    def set_from_clusters(
        self, z: Tensor, labels: Tensor, sum_ranks: Callable[[Tensor], Tensor] = lambda x: x, floor: float = 1e-6
    ) -> None:
        """Take shares, means and per-dimension variances from hard clusters of z (n, Z); empty ones keep their mean.

        With ``sum_ranks``, of the rows of all ranks.
        """
        k, rows = len(self.mean), list(zip(z.split(_ROWS), labels.split(_ROWS), strict=True))
        sums = z.new_zeros(2, k, z.shape[1], dtype=torch.float64)
        for some, own in rows:
            sums[0] += F.one_hot(own, k).double().T @ some.double()
        counts = sum_ranks(torch.bincount(labels, minlength=k).double())[:, None]
        there, held = counts[:, 0] > 0, counts.clamp_min(1)
        mean = sum_ranks(sums[0]) / held
        self.mean[there] = mean[there].to(z.dtype)
        for some, own in rows:
            sums[1] += F.one_hot(own, k).double().T @ (some.double() - mean[own]).square()
        variance = sum_ranks(sums[1]) / held
        self.log_variance[there] = variance[there].clamp_min(floor).log().to(z.dtype)
        self.logits.copy_((held / counts.sum().clamp_min(1)).log()[:, 0])
