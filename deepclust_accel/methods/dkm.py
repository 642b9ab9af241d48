"""dkm: deep k-means, whose hard assignment is the limit of a softmax, so that all of it has a gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.centers import SoftminCenters

__all__ = ["Dkm", "DkmParams", "annealed_alpha"]


@dataclass
class DkmParams(AutoencoderParams):
    """Settings of dkm."""

    latent_dim: int | None = param(None, "width of the code; none: K", unit="units", low=1)
    variant: Literal["pretrained", "annealed"] = param(
        "pretrained", "pretrained: k-means on a pretrained code, then α as it is; annealed: all from random, α rising"
    )
    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    batch_size: int = param(256, "rows per step of clustering", unit="rows", low=1)
    epochs: int = param(100, "epochs of clustering, pretrained variant", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate of clustering", above=0)
    cluster_weight: float = param(1.0, "λ, weight of the distance to the centers beside a row's square error", low=0)
    alpha: float = param(1000.0, "inverse temperature of the assignment, pretrained variant", above=0)
    alpha_values: int = param(40, "annealed: values of α, from 0.1", low=1)
    alpha_epochs: int = param(5, "annealed: epochs of each α", unit="epochs", low=1)


def annealed_alpha(number: int) -> float:
    """α of the ``number``-th stretch (from 0): 0.1, then each 2^(1 / ln(i + 1)²) times the one before it, i = 1, 2, …"""
    return 0.1 * math.prod(2 ** (1 / math.log(i + 1) ** 2) for i in range(1, number + 1))


class Dkm(AutoencoderMethod):
    """|x - x̂|² + λ Σ_k G_k |z - r_k|² with G = softmax(-α |z - r_k|²), for networks and centers r alike.

    Paper: Moradi Fard, Thonon & Gaussier, Pattern Recognition Letters 2020. Differs: k-means with restarts where the
    authors seed by k-means++; λ, which they tune with labels, is 1. Cost of an epoch: O(N·(weights + K·Z)). Assumes round
    clusters in the code. Known failure: nothing keeps the code from shrinking, which lowers the second term for nothing, nor
    empty centers from staying empty.
    """

    info = MethodInfo("dkm", "Moradi Fard et al., PRL 2020", "k-means in the code with a softmax assignment")
    Params = DkmParams

    def __init__(self, params: DkmParams, n_clusters: int, data: DataSpec):
        super().__init__(replace(params, latent_dim=params.latent_dim or n_clusters), n_clusters, data)
        self.centers = SoftminCenters(n_clusters, self.params.latent_dim)
        self.register_buffer("alpha", torch.tensor(params.alpha))

    def plan(self) -> list[Stage]:
        """Pretraining, first clusters and clustering; or clustering alone, with α rising."""
        p = self.params
        group = {"main": Group(("encoder", "decoder", "centers"), p.learning_rate)}
        if p.variant == "pretrained":
            return [
                *self.pretraining(),
                Pass("init-centers", self._init_centers),
                Train("cluster", self._refine, group, p.epochs, p.batch_size),
            ]
        rising = Train(
            "cluster",
            self._refine,
            group,
            p.alpha_values * p.alpha_epochs,
            p.batch_size,
            before_epoch=lambda run: self.alpha.fill_(annealed_alpha(run.epoch // p.alpha_epochs)),
        )
        return [Pass("draw-centers", self._draw_centers), rising]

    def assign(self, z: Tensor) -> Tensor:
        """G at the last α."""
        return self.centers(z, self.alpha)[0]

    def cluster_centers(self) -> Tensor:
        """(K, Z)."""
        return self.centers.positions

    def _init_centers(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.embed)
        found = first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)
        self.centers.positions.copy_(found[0])

    def _draw_centers(self, run: Run) -> None:
        shape = self.centers.positions.shape
        self.centers.positions.copy_(torch.rand(shape, generator=run.shared_generator) * 2 - 1)

    def _refine(self, nets, batch, run: Run) -> Tensor:
        z, x = nets.encoder(batch.x), batch.x.flatten(1)
        reconstruction = (self._mean(nets.decoder(z)) - x).square().sum(1).mean()
        share, distance = nets.centers(z, self.alpha)
        clustering = (share * distance).sum(1).mean()
        run.log(reconstruction=reconstruction, clustering=clustering, alpha=self.alpha)
        return reconstruction + self.params.cluster_weight * clustering
