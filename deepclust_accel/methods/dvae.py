"""DVAE: a variational autoencoder with a Gaussian-mixture prior, a classifier for the cluster, and a similarity loss.

He Ma, Math. Biosci. Eng. 19(10):10344-10360, 2022. Equation numbers below are the paper's; signs lost in print are
restored so that every term is minimised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.cluster.kmeans import kmeans
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.nn.mixture import DiagonalMixture
from deepclust_accel.nn.mlp import Mlp

__all__ = ["Dvae", "DvaeParams"]


@dataclass
class DvaeParams(AutoencoderParams):
    """Settings of dvae; where a default is not the paper's, its help says what the paper has or that it is silent."""

    batch_size: int = param(300, "rows per step; the similarity loss is over all pairs of them", unit="rows", low=1)
    n_init: int = param(20, "restarts of the k-means that gives the pseudo-labels", low=1)
    classifier_steps: int = param(
        1500, "steps of the classifier on pseudo-labels, rounded up to epochs (not in the paper)", unit="steps", low=0
    )
    classifier_learning_rate: float = param(1e-2, "Adam's rate for it (not in the paper)", above=0)
    epochs: int = param(80, "epochs of joint training (not in the paper)", unit="epochs", low=0)
    warmup_epochs: int = param(50, "joint epochs before the similarity loss joins, the paper's T", unit="epochs", low=0)
    learning_rate: float = param(
        1e-3, "Adam's rate at the start of joint training; the paper's 0.002 can undo the initialisation", above=0
    )
    decay: float = param(0.9, "factor on the rate every decay_epochs", above=0, high=1)
    decay_epochs: int = param(10, "epochs between two decays of the rate", unit="epochs", low=1)
    adam_eps: float = param(1e-4, "Adam's eps (VaDE's code)", above=0)
    beta: float = param(1.0, "weight of the similarity loss; the paper takes the largest that trains", low=0)
    beta_per: Literal["row", "value"] = param(
        "value",
        "beta weighs the similarity loss against the ELBO of a row, as printed (row), or of one value of a row, as "
        "code with mean losses has it (value: beta times D)",
    )
    normalization: Literal["pairs", "rows"] = param(
        "rows",
        "the similarity loss is divided by N², as printed (pairs), or is a mean over rows, as in CCLP's code (rows)",
    )
    detach_weights: bool = param(False, "treat the weights w_ij of the similarity loss as constants")
    reconstruction_variance: float | None = param(
        None, "λ, variance of the gaussian decoder; none: the pretrained autoencoder's mean squared residual", above=0
    )
    code_scale: float | None = param(
        0.5, "codes are rescaled to this mean standard deviation after pretraining; none leaves them", above=0
    )
    posterior_share: float = param(
        0.135, "variance of q(z|x) at the start, as a share of the variance within clusters", above=0
    )


class Dvae(AutoencoderMethod):
    """Variational autoencoder + mixture prior + classifier + Wasserstein similarity loss (Ma 2022).

    Readings taken where the paper is silent or cannot be meant literally; each is a setting:

    - Grey values are real numbers: gaussian decoder, with λ measured on the pretrained autoencoder (``λ`` is "predefined").
    - Codes get a common scale, encoder and decoder compensating: 1 / (1 + D) has a fixed unit of length, and D of a
      pretrained code can be 100, where the similarity loss has no gradient left.
    - q(z|x) starts narrow inside the clusters: with a fresh log-variance head its spread is that of all codes, and the
      first joint epoch undoes the initialisation.
    - The similarity loss as printed (``normalization="pairs"``, ``beta_per="row"``) is four orders of magnitude below the
      ELBO and changes nothing; the defaults give it a weight that matters.

    Cost of an epoch: O(N·weights) + O(N·batch·(Z + K)) for the similarity loss, in O(batch) memory. Assumes known K and
    roughly Gaussian clusters in the code. Known failure: it refines the clusters that k-means finds in the pretrained code;
    classes that those merge stay merged.
    """

    info = MethodInfo(
        "dvae", "Ma, Math. Biosci. Eng. 2022", "VAE, mixture prior, Wasserstein similarity loss", distributed=False
    )
    Params = DvaeParams

    def __init__(self, params: DvaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        k, latent = n_clusters, params.latent_dim
        # Printed "10C (C = 10) or 10CC (C < 10)": a linear softmax layer, behind one hidden layer of width C when C < 10.
        self.classifier = Mlp(latent, k, k) if k < 10 else Mlp(latent, k)
        self.mixture = DiagonalMixture(k, latent)
        self.log_variance = Mlp((self.features, *params.hidden)[-1], latent)  # reads the encoder's last hidden layer
        self.register_buffer("reconstruction_variance", torch.tensor(params.reconstruction_variance or 1.0))

    def plan(self) -> list[Stage]:
        """Pretrain, k-means pseudo-labels, classifier, joint training (Algorithm 1, sect. 3.4)."""
        p = self.params
        joint = Group(
            ("encoder", "decoder", "log_variance", "classifier", "mixture"),
            p.learning_rate,
            options={"eps": p.adam_eps},
            decay=lambda epoch: p.decay ** (epoch // p.decay_epochs),
        )
        classify = Group(("classifier",), p.classifier_learning_rate)
        steps_per_epoch = max(1, (self.data.rows or p.batch_size) // p.batch_size)
        return [
            *self.pretraining(),
            Pass("init-mixture", self._init_mixture),
            Train(
                "init-classifier",
                self._classify,
                {"main": classify},
                math.ceil(p.classifier_steps / steps_per_epoch),
                p.batch_size,
            ),
            Train("joint", self._joint, {"main": joint}, p.epochs, p.batch_size, needs_equal_shards=True),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """γ = softmax(h(z)), the classifier's probabilities at the posterior mean."""
        return torch.softmax(self.classifier(z), 1)

    def cluster_centers(self) -> Tensor:
        """(K, Z) means of the mixture prior."""
        return self.mixture.mean

    def _init_mixture(self, run: Run) -> None:
        p = self.params
        if p.reconstruction_variance is None:
            residual = run.collect(lambda x: (self._mean(self.decoder(self.embed(x))) - x.flatten(1)).square().mean(1))
            self.reconstruction_variance.copy_(residual.mean().clamp_min(1e-6))
        if p.code_scale is not None:
            self._rescale(run.collect(self.embed).std(0, unbiased=False).mean() / p.code_scale)
        codes = run.collect(self.embed)
        found = kmeans(
            codes,
            self.n_clusters,
            generator=run.shared_generator,
            n_init=p.n_init,
            sum_ranks=run.sum_ranks,
            index=run.row_numbers(),
        )
        labels = found.labels.to(codes.device)
        self.mixture.mean.copy_(found.centers)
        self.mixture.set_from_clusters(codes, labels)
        within = (codes - self.mixture.mean[labels]).square().mean(0).clamp_min(1e-6)
        head = self.log_variance.layers[0]
        head.weight.zero_()
        head.bias.copy_(torch.log(within * p.posterior_share))

    def _rescale(self, factor: Tensor) -> None:
        """Divide the codes by ``factor`` and let the decoder undo it, so that reconstructions stay as they are."""
        factor = factor.clamp_min(1e-6)
        self.encoder.layers[-1].weight /= factor
        self.encoder.layers[-1].bias /= factor
        self.decoder.layers[0].weight *= factor

    def _classify(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            z = nets.encoder(batch.x)
            pseudo = torch.cdist(z, self.mixture.mean).argmin(1)  # the k-means label: means are its centers until now
        logits = nets.classifier(z)
        run.log(agreement=(logits.argmax(1) == pseudo).double().mean())
        return F.cross_entropy(logits, pseudo)

    def _joint(self, nets, batch, run: Run) -> Tensor:
        p = self.params
        last = len(self.encoder) - 1
        hidden = nets.encoder(batch.x, 0, last)
        mu, log_variance = nets.encoder(hidden, last), nets.log_variance(hidden)
        sigma = torch.exp(0.5 * log_variance)
        z = mu + sigma * torch.randn(mu.shape, generator=run.generator, device=mu.device, dtype=mu.dtype)
        log_gamma = torch.log_softmax(nets.classifier(z), 1)

        reconstruction = self._reconstruction(nets.decoder(z), batch.x.flatten(1))
        kl_gaussian, kl_cluster = (term.mean() for term in nets.mixture(mu, log_variance, log_gamma))
        loss = reconstruction + kl_gaussian + kl_cluster  # eq. 3.6

        similarity = ops.wasserstein_similarity(
            mu, sigma, log_gamma.exp(), normalization=p.normalization, detach_weights=p.detach_weights
        )  # eq. 3.9
        if run.epoch >= p.warmup_epochs:
            loss = loss + p.beta * (self.features if p.beta_per == "value" else 1) * similarity  # eq. 3.14
        run.log(reconstruction=reconstruction, kl_gaussian=kl_gaussian, kl_cluster=kl_cluster, similarity=similarity)
        return loss

    def _reconstruction(self, output: Tensor, x: Tensor) -> Tensor:
        """Mean over rows of -log p(x | z) summed over the values of a row, but for a constant."""
        if self.params.decoder == "bernoulli":
            return F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(1).mean()
        return (self._mean(output) - x).square().sum(1).mean() / (2 * self.reconstruction_variance)
