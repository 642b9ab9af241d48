"""dmae: dissimilarity mixture autoencoder, whose decoder sees the expected center of a row instead of its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import Batch, DataSpec, Group, MethodInfo, Pass, Run, Stage, Train, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param

__all__ = ["DISSIMILARITIES", "DissimilarityMixture", "Dmae", "DmaeParams"]

_SMALL = 1e-12  # under a root, whose slope at zero is infinite

# (…, Z), (…, Z) → (…): how unlike a code and a center are
DISSIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": lambda z, m: ((z - m).square().sum(-1) + _SMALL).sqrt(),
    "manhattan": lambda z, m: (z - m).abs().sum(-1),
    "chebyshev": lambda z, m: (z - m).abs().amax(-1),
    "cosine": lambda z, m: 1 - F.cosine_similarity(z, m, dim=-1),
    "correlation": lambda z, m: 1 - F.cosine_similarity(_centered(z), _centered(m), dim=-1),
}


def _centered(z: Tensor) -> Tensor:
    return z - z.mean(-1, keepdim=True)


@dataclass
class DmaeParams(AutoencoderParams):
    """Settings of dmae."""

    dissimilarity: Literal["euclidean", "manhattan", "chebyshev", "cosine", "correlation"] = param(
        "euclidean", "δ, between a code and a center; euclidean is not squared"
    )
    alpha: float = param(100.0, "inverse temperature of the assignment", above=0)
    cluster_weight: float = param(1.0, "weight of the clustering loss, a sum over the rows of a batch", low=0)
    reconstruction_weight: float = param(0.01, "weight of the mean squared error, a mean over rows and values", low=0)
    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    batch_size: int = param(256, "rows per step of clustering", unit="rows", low=1)
    epochs: int = param(300, "epochs of clustering", unit="epochs", low=0)
    learning_rate: float = param(1e-5, "Adam's rate of clustering", above=0)


class DissimilarityMixture(nn.Module):
    """K centers with weights π; a code gets a share in each, an expected center and an expected weight.

    Attributes:
        positions (K, Z), logits (K,): parameters; π = softmax(logits).
    """

    def __init__(self, n_clusters: int, latent: int, dissimilarity: str, alpha: float):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(n_clusters, latent))
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.alpha, self.delta = alpha, DISSIMILARITIES[dissimilarity]

    def shares(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, K), softmax(-α δ(z, μ_k) + log π_k)."""
        return torch.softmax(-self.alpha * self.delta(z[:, None], self.positions) + self.logits.log_softmax(0), 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z) → expected centers μ̃ (B, Z) and the loss δ(z, μ̃) - log(π̃) / α of each row (B,)."""
        s = self.shares(z)
        center, weight = s @ self.positions, s @ self.logits.softmax(0)
        return center, self.delta(z, center) - weight.log() / self.alpha


class Dmae(AutoencoderMethod):
    """λ_c Σ_i [δ(z_i, μ̃_i) - log(π̃_i) / α] + λ_r MSE(x, decoder(μ̃)), s = softmax(-α δ + log π), μ̃ = s μ, π̃ = s π.

    Paper: Lara & González, Dissimilarity Mixture Autoencoder, arXiv 2006.08177. Differs: first clusters of every δ come from
    the initializer; π is a softmax where theirs is free; the whole loss is divided by the rows of the batch, which Adam
    does not notice; the house's pretraining, no augmentation and no Mahalanobis distance. Cost of an epoch: O(N·(weights +
    K·Z)). Assumes clusters that are compact in δ. Known failure: as the decoder sees centers only, the code may lose
    what tells rows of a cluster apart.
    """

    info = MethodInfo("dmae", "Lara & González, arXiv 2006.08177", "mixture of any dissimilarity in an autoencoder")
    Params = DmaeParams

    def __init__(self, params: DmaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.mixture = DissimilarityMixture(n_clusters, params.latent_dim, params.dissimilarity, params.alpha)

    def plan(self) -> list[Stage]:
        """Pretraining, first centers, clustering."""
        p = self.params
        group = {"main": Group(("encoder", "decoder", "mixture"), p.learning_rate)}
        return [
            *self.pretraining(),
            Pass("init-centers", self._init_centers),
            Train("cluster", self._refine, group, p.epochs, p.batch_size),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """Shares s."""
        return self.mixture.shares(z)

    def cluster_centers(self) -> Tensor:
        """(K, Z)."""
        return self.mixture.positions

    def _init_centers(self, run: Run) -> None:
        p = self.params
        centers, labels = first_clusters(
            run.collect(self.embed), self.n_clusters, run, initializer=p.initializer, n_init=p.n_init
        )
        counts = run.sum_ranks(torch.bincount(labels, minlength=self.n_clusters))
        self.mixture.positions.copy_(centers)
        self.mixture.logits.copy_(counts.clamp_min(1).log())

    def _refine(self, nets, batch: Batch, run: Run) -> Tensor:
        p = self.params
        center, rows = nets.mixture(nets.encoder(batch.x))
        reconstruction = self.mean_squared_error(nets.decoder(center), batch.x)
        run.log(clustering=rows.mean(), reconstruction=reconstruction)
        return p.cluster_weight * rows.mean() + p.reconstruction_weight * reconstruction / batch.total
