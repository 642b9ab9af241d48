"""DVAE: a variational autoencoder with a Gaussian-mixture prior, a classifier for the cluster, and a similarity loss.

He Ma, Math. Biosci. Eng. 19(10):10344-10360, 2022. Equation numbers below are the paper's; signs lost in print are
restored so that every term is minimised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..cluster.kmeans import kmeans
from ..engine.run import Run
from ..nn.mixture import DiagonalMixture
from ..nn.mlp import Mlp
from .autoencoder import AutoencoderMethod, AutoencoderParams
from .base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param

__all__ = ["Dvae", "DvaeParams"]


@dataclass
class DvaeParams(AutoencoderParams):
    """Settings of dvae; defaults are the paper's where it states them."""

    batch_size: int = param(300, "rows per step; the similarity loss is over all pairs of them", unit="rows", low=1)
    n_init: int = param(20, "restarts of the k-means that gives the pseudo-labels", low=1)
    classifier_epochs: int = param(50, "epochs of training the classifier on pseudo-labels", unit="epochs", low=0)
    epochs: int = param(300, "epochs of joint training; the paper gives no number", unit="epochs", low=0)
    warmup_epochs: int = param(50, "joint epochs without the similarity loss (the paper's T)", unit="epochs", low=0)
    learning_rate: float = param(2e-3, "Adam's rate at the start of joint training", above=0)
    decay: float = param(0.9, "factor on the rate every decay_epochs", above=0, high=1)
    decay_epochs: int = param(10, "epochs between two decays of the rate", unit="epochs", low=1)
    adam_eps: float = param(1e-4, "Adam's eps (VaDE's code)", above=0)
    beta: float = param(1.0, "weight of the similarity loss; the paper takes the largest that trains", low=0)
    normalization: Literal["pairs", "rows"] = param(
        "pairs", "divide the similarity loss by N² as printed (pairs), or by N, a mean over rows (rows)")
    detach_weights: bool = param(False, "treat the weights w_ij of the similarity loss as constants")
    reconstruction_variance: float = param(0.5, "λ, variance of the gaussian decoder (0.5 gives VaDE's squared error)",
                                           above=0)


class Dvae(AutoencoderMethod):
    """Variational autoencoder + mixture prior + classifier + Wasserstein similarity loss (Ma 2022).

    Differs from the paper: nothing that it states; where it is silent the defaults are VaDE's (Adam with eps 1e-4,
    Gaussian decoder variance 0.5) or ours (epochs, pretraining). Cost of an epoch: O(N·weights) + O(N·batch·(Z + K)) for the
    similarity loss, in O(batch) memory. Assumes known K and roughly Gaussian clusters in the code. Known failure: with
    normalization="pairs" the similarity term is thousands of times smaller than the ELBO and moves little.
    """

    info = MethodInfo("dvae", "Ma, Math. Biosci. Eng. 2022", "VAE, mixture prior, Wasserstein similarity loss", distributed=False)
    Params = DvaeParams
    outputs_per_code = 2  # mean and log-variance

    def __init__(self, params: DvaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        k, latent = n_clusters, params.latent_dim
        # Printed "10C (C = 10) or 10CC (C < 10)": a linear softmax layer, behind one hidden layer of width C when C < 10.
        self.classifier = Mlp(latent, k, k) if k < 10 else Mlp(latent, k)
        self.mixture = DiagonalMixture(k, latent)

    def plan(self) -> list[Stage]:
        """Pretrain, k-means pseudo-labels, classifier, joint training (Algorithm 1, sect. 3.4)."""
        p = self.params
        joint = Group(("encoder", "decoder", "classifier", "mixture"), p.learning_rate, options={"eps": p.adam_eps},
                      decay=lambda epoch: p.decay ** (epoch // p.decay_epochs))
        classify = Group(("classifier",), p.learning_rate)
        return [
            *self.pretraining(),
            Pass("init-mixture", self._init_mixture),
            Train("init-classifier", self._classify, {"main": classify}, p.classifier_epochs, p.batch_size),
            Train("joint", self._joint, {"main": joint}, p.epochs, p.batch_size, needs_equal_shards=True),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """γ = softmax(h(z)), the classifier's probabilities at the posterior mean."""
        return torch.softmax(self.classifier(z), 1)

    def cluster_centers(self) -> Tensor:
        """(K, Z) means of the mixture prior."""
        return self.mixture.mean

    def _init_mixture(self, run: Run) -> None:
        codes = run.collect(self.embed)
        found = kmeans(codes, self.n_clusters, generator=run.shared_generator, n_init=self.params.n_init,
                       sum_ranks=run.sum_ranks)
        self.mixture.mean.copy_(found.centers)
        self.mixture.set_from_clusters(codes, found.labels.to(codes.device))

    def _classify(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            z = self._code(nets.encoder(batch.x))
            pseudo = torch.cdist(z, self.mixture.mean).argmin(1)  # the k-means label: means are its centers until now
        return F.cross_entropy(nets.classifier(z), pseudo)

    def _joint(self, nets, batch, run: Run) -> Tensor:
        p = self.params
        mu, log_variance = nets.encoder(batch.x).chunk(2, dim=1)
        sigma = torch.exp(0.5 * log_variance)
        noise = torch.randn(mu.shape, generator=run.generator, device=mu.device, dtype=mu.dtype)
        z = mu + sigma * noise
        log_gamma = torch.log_softmax(nets.classifier(z), 1)
        gamma = log_gamma.exp()

        reconstruction = self._reconstruction(nets.decoder(z), batch.x.flatten(1))
        energy, log_weights = nets.mixture(mu, log_variance)
        kl_gaussian = 0.5 * (gamma * energy).sum(1).mean() - 0.5 * (1 + log_variance).sum(1).mean()
        kl_cluster = (gamma * (log_gamma - log_weights)).sum(1).mean()
        loss = reconstruction + kl_gaussian + kl_cluster                                             # eq. 3.6

        similarity = ops.wasserstein_similarity(mu, sigma, gamma, normalization=p.normalization,
                                                detach_weights=p.detach_weights)                     # eq. 3.9
        if run.epoch >= p.warmup_epochs:
            loss = loss + p.beta * similarity                                                        # eq. 3.14
        run.log(reconstruction=reconstruction, kl_gaussian=kl_gaussian, kl_cluster=kl_cluster, similarity=similarity)
        return loss

    def _reconstruction(self, output: Tensor, x: Tensor) -> Tensor:
        """Mean over rows of -log p(x | z), summed over the values of a row."""
        if self.bernoulli:
            return F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(1).mean()
        return (output - x).square().sum(1).mean() / (2 * self.params.reconstruction_variance)
