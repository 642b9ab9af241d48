"""The clustering module: an autoencoder with one hidden layer, whose code is a cluster assignment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ClusteringModule", "dirichlet_loss", "module_losses"]


class ClusteringModule(nn.Module):
    """γ = softmax(W x + w₀) and x̄ = V γ + v₀, so that cluster k has the mean μ_k = V e_k + v₀ (Boubekki et al. 2021).

    Args:
        width: q, of what is clustered.
        n_clusters: K.
        bias: with the offsets w₀ and v₀.
    """

    def __init__(self, width: int, n_clusters: int, bias: bool = True):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(width, n_clusters, bias), nn.Linear(n_clusters, width, bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, q) → assignment (B, K) and means (K, q)."""
        return torch.softmax(self.encoder(x), 1), self.means()

    def assign(self, x: Tensor) -> Tensor:
        """(B, q) → (B, K) γ, its logits in float64, so that a row's does not depend on the rows beside it."""
        bias = None if self.encoder.bias is None else self.encoder.bias.double()
        return torch.softmax(F.linear(x.double(), self.encoder.weight.double(), bias), 1).to(x.dtype)

    def means(self) -> Tensor:
        """(K, q) μ_k."""
        means = self.decoder.weight.T
        return means if self.decoder.bias is None else means + self.decoder.bias

    @torch.no_grad()
    def set_means(self, means: Tensor, variance: Tensor | float | None = None) -> None:
        """Decode to these means (K, q); encode with their pseudoinverse, or as the Gaussian mixture of this variance does.

        The posterior of equal, isotropic Gaussians is softmax((μ_k·x - |μ_k|²/2) / σ²).
        """
        self.decoder.weight.copy_(means.T)
        self.encoder.weight.copy_(torch.linalg.pinv(means.double()).T if variance is None else means / variance)
        for layer in (self.encoder, self.decoder):
            if layer.bias is not None:
                layer.bias.zero_()
        if variance is not None and self.encoder.bias is not None:
            self.encoder.bias.copy_(-0.5 * means.square().sum(1) / variance)


def module_losses(x: Tensor, gamma: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction, sparsity and merging terms, sums over the rows; together Σ_ik γ_ik |x_i - μ_k|².

    Args:
        x: (B, q). gamma: (B, K), rows sum to 1. means: (K, q).

    Returns:
        E1 = Σ_i |x_i - Σ_k γ_ik μ_k|², E2 = Σ_k |μ_k|² Σ_i γ_ik (1 - γ_ik), E3 = - Σ_{k≠l} μ_k·μ_l Σ_i γ_ik γ_il.

    Cost: O(B K q + K² (B + q)).
    """
    shared, products = gamma.T @ gamma, means @ means.T
    reconstruction = (x - gamma @ means).square().sum()
    sparsity = ((gamma * (1 - gamma)).sum(0) * products.diagonal()).sum()
    merging = (shared.diagonal() * products.diagonal()).sum() - (shared * products).sum()
    return reconstruction, sparsity, merging


def dirichlet_loss(gamma: Tensor, alpha: Tensor) -> Tensor:
    """E4 = Σ_k (1 - α_k) log mean_i γ_ik, the prior of the cluster shares; α > 1 asks for balance.

    Args:
        gamma: (B, K). alpha: (1,), or (K,): sorted, then paired with the sorted shares, since clusters have no order.
    """
    log_share = torch.log(gamma.mean(0) + 1e-10)
    if len(alpha) > 1:
        log_share, alpha = log_share.sort().values, alpha.sort().values
    return ((1 - alpha) * log_share).sum()
