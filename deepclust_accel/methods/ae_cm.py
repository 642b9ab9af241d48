"""ae-cm: an autoencoder whose code is kept decodable from its cluster assignment by a clustering module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from deepclust_accel.data.room import pieces
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.cm import ModuleParams, averaging_step, check_alpha, start_module
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.clustering_module import ClusteringModule, dirichlet_loss, module_losses
from deepclust_accel.nn.mlp import Mlp

__all__ = ["AeCm", "AeCmParams", "orthogonality_loss"]


@dataclass
class AeCmParams(ModuleParams, AutoencoderParams):
    """Settings of ae-cm."""

    latent_dim: int | None = param(
        None, "width of the code, at least K; none: the larger of 10 and K", unit="units", low=1
    )
    slope: float = param(0.2, "of the leaky ReLU below zero; 0 is ReLU", low=0)
    weight_init: Literal["torch", "xavier"] = param(
        "xavier", "initial weights of encoder and decoder: PyTorch's own, or Glorot's (xavier), normal offsets as well"
    )
    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    unit_centroids: bool = param(
        True,
        "rescale pretrained codes so that centroids have length 1 on average, as they shall in the end (not the paper's)",
    )
    module_epochs: int = param(100, "epochs of the module alone on pretrained codes", unit="epochs", low=0)
    epochs: int = param(1000, "epochs of joint training", unit="epochs", low=0)
    beta: float = param(0.04, "weight of the autoencoder's reconstruction", low=0)
    orthogonality_weight: float = param(1.0, "λ, weight of |U Uᵀ - I|", low=0)
    orthogonality: Literal["l1", "squared"] = param("l1", "norm of U Uᵀ - I")


def orthogonality_loss(means: Tensor, form: str) -> Tensor:
    """Σ_kl |U Uᵀ - I|_kl, or of their squares; means U (K, q)."""
    off = means @ means.T - torch.eye(len(means), dtype=means.dtype, device=means.device)
    return off.square().sum() if form == "squared" else off.abs().sum()


class AeCm(AutoencoderMethod):
    """Autoencoder + clustering module with orthonormal centroids on its code.

    Paper: Boubekki et al., Machine Learning 110, 2021:
    L = Σ|z - z̄|² + Σ γ(1 - γ) + λ |U Uᵀ - I| + Σ_k (1 - α_k) log γ̃_k + β Σ|x - x̂|². With orthonormal centroids the first
    two terms are those of the clustering module. α and λ depend on the batch size, unless the form is the authors' later
    one (``reduction=normalized orthogonality=squared alpha=1.1 beta=100 orthogonality_weight=0.1``), whose gradients are
    small beside Adam's eps: it wants their many steps. Differs: the authors tuned α, β, the batch size and the width of
    the code on each set; here β, and α for the batch size, are what they took for USPS (3 for 45 rows), everywhere.
    Pretraining is ours (Adam), pretrained codes are rescaled to centroids of length 1, and the module
    starts as a Gaussian mixture (``encoder_start``). ``initialization=random`` leaves pretraining out. Cost of an epoch:
    O(N·(weights + K·Z)). Assumes clusters of the shares that α says and Z ≥ K. Known
    failure: with an α too small clusters die, with one too large classes of unequal size are cut.

    Defaults that the paper does not give were chosen while looking at the accuracy of a few seeds on digits and USPS.
    """

    info = MethodInfo(
        "ae-cm", "Boubekki et al., Machine Learning 2021", "autoencoder with a clustering module", distributed=False
    )
    Params = AeCmParams

    def __init__(self, params: AeCmParams, n_clusters: int, data: DataSpec):
        params = replace(params, latent_dim=params.latent_dim or max(10, n_clusters))
        if params.latent_dim < n_clusters:
            raise ArgumentError(
                f"latent_dim: expected at least the number of clusters ({n_clusters}), since centroids are orthogonal, "
                f"got {params.latent_dim}; leave it out"
            )
        super().__init__(params, n_clusters, data)
        self.module = ClusteringModule(params.latent_dim, n_clusters, params.bias)
        self.register_buffer("alpha", check_alpha(params, n_clusters), persistent=False)

    def _networks(self) -> tuple[Mlp, Mlp]:
        networks = super()._networks()
        if self.params.weight_init == "xavier":
            for layer in (layer for network in networks for layer in network.layers):
                nn.init.normal_(layer.bias, std=len(layer.bias) ** -0.5)
        return networks

    def plan(self) -> list[Stage]:
        """Pretraining, k-means and the module alone, unless all starts at random; then joint training, averaging."""
        p, options = self.params, {"eps": self.params.adam_eps}
        module = {"main": Group(("module",), p.learning_rate, options=options)}
        joint = {"main": Group(("encoder", "decoder", "module"), p.learning_rate, options=options)}
        first = [
            *self.pretraining(),
            Pass("init-module", self._init_module),
            Train("module", self._module_step, module, p.module_epochs, p.batch_size),
        ]
        average = Train("average", averaging_step(self._joint, self.parts()), joint, 1, p.batch_size)
        return [
            *(first if p.initialization == "pretrained" else []),
            Train("joint", self._joint, joint, p.epochs, p.batch_size),
            *([average] if p.average_last_epoch else []),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """γ."""
        return self.module.assign(z)

    def cluster_centers(self) -> Tensor:
        """(K, Z) centroids U."""
        return self.module.means()

    def _init_module(self, run: Run) -> None:
        p = self.params
        codes = run.collect(self.embed)
        centers, labels = first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)
        if p.unit_centroids:
            length = centers.norm(dim=1).mean().clamp_min(1e-6)
            self._rescale(length)
            centers = centers / length
            for rows in pieces(codes):
                codes[rows] /= length
        start_module(self.module, codes, centers, labels, p, run)

    def _module_step(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            z = nets.encoder(batch.x)
        gamma, means = nets.module(z)
        terms = [term / self._size(z) for term in module_losses(z, gamma, means)]
        prior = dirichlet_loss(gamma, self.alpha)
        run.log(code=terms[0], sparsity=terms[1], merging=terms[2], prior=prior)
        return sum(terms) + prior

    def _joint(self, nets, batch, run: Run) -> Tensor:
        p, x = self.params, batch.x
        z = nets.encoder(x)
        gamma, means = nets.module(z)
        code = (z - gamma @ means).square().sum() / self._size(z)
        sparsity = (gamma * (1 - gamma)).sum() / self._size(z)
        orthogonality = orthogonality_loss(means, p.orthogonality)
        prior = dirichlet_loss(gamma, self.alpha)
        reconstruction = self.mean_squared_error(nets.decoder(z), x) * (x.numel() / self._size(x))
        run.log(code=code, sparsity=sparsity, orthogonality=orthogonality, prior=prior, reconstruction=reconstruction)
        return code + sparsity + p.orthogonality_weight * orthogonality + prior + p.beta * reconstruction

    def _size(self, values: Tensor) -> int:
        """What a sum over a batch is divided by."""
        return values.numel() if self.params.reduction == "normalized" else 1
