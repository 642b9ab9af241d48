"""k-dae: k-means whose centers are autoencoders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.experts import Experts

__all__ = ["KDae", "KDaeParams"]


@dataclass
class KDaeParams(AutoencoderParams):
    """Settings of k-dae."""

    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    expert_hidden: tuple[int, ...] = param(
        (256, 64), "widths of the hidden layers of a cluster's encoder; its decoder mirrors them", unit="units", low=1
    )
    expert_latent_dim: int = param(10, "width of the code of a cluster's autoencoder", unit="units", low=1)
    batch_size: int = param(256, "rows per step of the clusters' autoencoders", unit="rows", low=1)
    expert_epochs: int = param(50, "epochs of each cluster's autoencoder on its first cluster", unit="epochs", low=0)
    epochs: int = param(50, "epochs of assigning and training in turns", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate on the first clusters", above=0)
    refine_learning_rate: float = param(1e-4, "Adam's rate in turns", above=0)


class KDae(AutoencoderMethod):
    """K autoencoders A_k minimise Σ_i min_k |x_i - A_k(x_i)|²; a row belongs to the one that reconstructs it best.

    Paper: Opochinsky, Chazan, Gannot & Goldberger (K-autoencoders deep clustering), ICASSP 2020. No code of the authors is
    known; widths, rates and epochs are ours. A row is assigned anew in every step. The code (``embed``) is the mean squared
    error of each of the K. Cost of an epoch: O(N·K·weights of one): all K see every row. Assumes that classes lie on
    different low-dimensional sheets. Known failure: autoencoders wide enough to copy any row win at random.
    """

    info = MethodInfo("k-dae", "Opochinsky et al., ICASSP 2020", "an autoencoder for each cluster")
    Params = KDaeParams

    def __init__(self, params: KDaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        widths = (self.features, *params.expert_hidden)
        self.experts = Experts(n_clusters, *widths, params.expert_latent_dim, *reversed(widths))
        self.register_buffer("centers", torch.zeros(n_clusters, params.latent_dim))

    def plan(self) -> list[Stage]:
        """One autoencoder and k-means; K autoencoders on their clusters; assigning and training in turns."""
        p = self.params
        first, turns = ({"main": Group(("experts",), rate)} for rate in (p.learning_rate, p.refine_learning_rate))
        return [
            *self.pretraining(),
            Pass("init-clusters", self._init_clusters),
            Train("experts", self._first_step, first, p.expert_epochs, p.batch_size),
            Train("cluster", self._step, turns, p.epochs, p.batch_size),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, K) mean squared error of each autoencoder."""
        return self._errors(self.experts, x)

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the smallest error."""
        return F.one_hot(z.argmin(1), self.n_clusters).to(z.dtype)

    def _errors(self, experts, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return (self._mean(experts(x)) - x).square().mean(2).T

    def _init_clusters(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.encoder)
        self.centers.copy_(first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)[0])

    def _first_step(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            labels = ops.nearest_center(self.encoder(batch.x), self.centers)[0]
        return self._errors(nets.experts, batch.x).gather(1, labels[:, None]).mean()

    def _step(self, nets, batch, run: Run) -> Tensor:
        return self._errors(nets.experts, batch.x).amin(1).mean()
