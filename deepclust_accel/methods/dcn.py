"""dcn: an autoencoder whose codes are pulled to k-means centers that follow them as running means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.ae_kmeans import nearest_one_hot
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, Update, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param

__all__ = ["Dcn", "DcnParams"]


@dataclass
class DcnParams(AutoencoderParams):
    """Settings of dcn."""

    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    batch_size: int = param(256, "rows per step of clustering", unit="rows", low=1)
    epochs: int = param(50, "epochs of clustering", unit="epochs", low=0)
    optimizer: Literal["adam", "sgd"] = param("adam", "of clustering")
    learning_rate: float = param(1e-3, "of clustering", above=0)
    momentum: float = param(0.9, "of sgd", low=0, high=1)
    cluster_weight: float = param(
        1.0, "λ, twice the weight of the distance to the center; a row's square error has 1", low=0
    )
    initial_count: int = param(100, "rows that a center is taken to be the mean of at the start", unit="rows", low=1)


class Dcn(AutoencoderMethod):
    """Autoencoder and k-means at once: |x - x̂|² + λ/2 |z - c|² for the networks, running means for the centers.

    Paper: Yang et al., ICML 2017, eq. 5 and sect. 3.3: after each gradient step the batch is assigned again, and a center
    takes each of its rows z by c += (z - c) / n, n counting up from 100. Differs: Adam, no batch normalization, and a row's
    center in the gradient step is its nearest now, not that of its last visit. The authors tuned λ and the widths for each
    set. Cost of an epoch: O(N·(weights + K·Z)), and a second pass through the encoder. Assumes round clusters in the code.
    Known failure: with λ too large the code shrinks onto few centers.
    """

    info = MethodInfo("dcn", "Yang et al., ICML 2017", "autoencoder with k-means on its code, in turns")
    Params = DcnParams

    def __init__(self, params: DcnParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.register_buffer("centers", torch.zeros(n_clusters, params.latent_dim))
        self.register_buffer("counts", torch.full((n_clusters,), params.initial_count))

    def plan(self) -> list[Stage]:
        """Pretraining, first clusters, both in turns."""
        p = self.params
        options = {"momentum": p.momentum, "nesterov": p.momentum > 0} if p.optimizer == "sgd" else {}
        group = {"main": Group(("encoder", "decoder"), p.learning_rate, p.optimizer, options)}
        return [
            *self.pretraining(),
            Pass("init-centers", self._init_centers),
            Train("cluster", self._refine, group, p.epochs, p.batch_size),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the nearest center."""
        return nearest_one_hot(z, self.centers)

    def cluster_centers(self) -> Tensor:
        """(K, Z) running means."""
        return self.centers

    def _init_centers(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.embed)
        self.centers.copy_(first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)[0])

    def _refine(self, nets, batch, run: Run) -> Iterator[Update]:
        z, x = nets.encoder(batch.x), batch.x.flatten(1)
        nearest = ops.nearest_center(z.detach(), self.centers)[0]
        clustering = (z - self.centers[nearest]).square().sum(1).mean()
        reconstruction = (self._mean(nets.decoder(z)) - x).square().sum(1).mean()
        run.log(reconstruction=reconstruction, clustering=clustering)
        yield Update(reconstruction + 0.5 * self.params.cluster_weight * clustering)
        with torch.no_grad():
            self._follow(nets.encoder(batch.x), run, counted=float(batch.share > 0))

    def _follow(self, z: Tensor, run: Run, counted: float = 1.0) -> None:
        """Let the centers take the rows of a batch, one after the other: in the end each is the mean of what it took.

        ``counted`` is 0 where a process without rows of its own stands in with another's.
        """
        sums, counts = ops.center_sums(z, ops.nearest_center(z, self.centers)[0], self.n_clusters)
        sums, counts = run.sum_ranks(sums * counted), run.sum_ranks(counts * counted)
        total = self.counts + counts
        self.centers.copy_((self.centers * self.counts[:, None] + sums) / total[:, None])
        self.counts.copy_(total)
