"""ae-kmeans: an autoencoder, then k-means on its codes. The baseline every deep method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel.cluster.kmeans import kmeans
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, MethodInfo, Pass, Stage, param

__all__ = ["AeKMeans", "AeKMeansParams"]


@dataclass
class AeKMeansParams(AutoencoderParams):
    """Settings of ae-kmeans."""

    n_init: int = param(20, "k-means restarts; the one of lowest inertia is kept", low=1)


class AeKMeans(AutoencoderMethod):
    """Autoencoder pretraining, then k-means with restarts on the codes.

    Paper: the "AE + k-means" row of Xie et al. (DEC), ICML 2016. Cost: an epoch of reconstruction is O(N·weights), k-means
    O(N·K·Z) an iteration. Assumes round clusters of similar size in the code. Known failure: nothing asks the code to be
    clustered, so well-reconstructed nuisance (slant, stroke width) can dominate it.
    """

    info = MethodInfo("ae-kmeans", "Xie et al., ICML 2016 (baseline)", "k-means on the codes of an autoencoder")
    Params = AeKMeansParams

    def __init__(self, params: AeKMeansParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.register_buffer("centers", torch.zeros(n_clusters, params.latent_dim))

    def plan(self) -> list[Stage]:
        """Pretraining, then one pass of k-means."""
        return [*self.pretraining(), Pass("k-means", self._cluster)]

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the nearest center."""
        return nearest_one_hot(z, self.centers)

    def cluster_centers(self) -> Tensor:
        """(K, Z) means of the codes."""
        return self.centers

    def _cluster(self, run: Run) -> None:
        found = kmeans(
            run.collect(self.embed),
            self.n_clusters,
            generator=run.shared_generator,
            n_init=self.params.n_init,
            sum_ranks=run.sum_ranks,
            index=run.row_numbers(),
        )
        self.centers.copy_(found.centers)


def nearest_one_hot(z: Tensor, centers: Tensor) -> Tensor:
    """(B, Z), (K, Z) → (B, K) with a 1 at the nearest center; distances in float64, so a row's label does not depend on
    the rows beside it."""
    nearest = torch.cdist(z.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    return torch.nn.functional.one_hot(nearest, len(centers)).to(z.dtype)
