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
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.variational import VariationalMethod, VariationalParams
from deepclust_accel.nn.mlp import Mlp

__all__ = ["Dvae", "DvaeParams"]


@dataclass
class DvaeParams(VariationalParams):
    """Settings of dvae; where a default is not the paper's, its help says what the paper has or that it is silent."""

    batch_size: int = param(300, "rows per step; the similarity loss is over all pairs of them", unit="rows", low=1)
    epochs: int = param(80, "epochs of joint training (not in the paper)", unit="epochs", low=0)
    learning_rate: float = param(
        1e-3, "Adam's rate at the start of joint training; the paper's 0.002 can undo the initialisation", above=0
    )
    adam_eps: float = param(1e-4, "Adam's eps (VaDE's code)", above=0)
    classifier_steps: int = param(
        1500, "steps of the classifier on pseudo-labels, rounded up to epochs (not in the paper)", unit="steps", low=0
    )
    classifier_learning_rate: float = param(1e-2, "Adam's rate for it (not in the paper)", above=0)
    warmup_epochs: int = param(50, "joint epochs before the similarity loss joins, the paper's T", unit="epochs", low=0)
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


class Dvae(VariationalMethod):
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

    info = MethodInfo("dvae", "Ma, Math. Biosci. Eng. 2022", "VAE, mixture prior, Wasserstein similarity loss")
    Params = DvaeParams

    def __init__(self, params: DvaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        k, latent = n_clusters, params.latent_dim
        # Printed "10C (C = 10) or 10CC (C < 10)": a linear softmax layer, behind one hidden layer of width C when C < 10.
        self.classifier = Mlp(latent, k, k) if k < 10 else Mlp(latent, k)
        self._add_mixture()

    def plan(self) -> list[Stage]:
        """Pretrain, k-means pseudo-labels, classifier, joint training (Algorithm 1, sect. 3.4)."""
        p = self.params
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
            Train(
                "joint", self._joint, self._joint_group("classifier"), p.epochs, p.batch_size, needs_equal_shards=True
            ),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """γ = softmax(h(z)), the classifier's probabilities at the posterior mean."""
        return torch.softmax(self.classifier(z), 1)

    def _classify(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            z = nets.encoder(batch.x)
            pseudo = torch.cdist(z, self.mixture.mean).argmin(1)  # means are those of the first clusters until now
        logits = nets.classifier(z)
        run.log(agreement=(logits.argmax(1) == pseudo).double().mean())
        return F.cross_entropy(logits, pseudo)

    def _joint(self, nets, batch, run: Run) -> Tensor:
        p = self.params
        mu, log_variance, z = self._sample(nets, batch.x, run)
        sigma = torch.exp(0.5 * log_variance)
        log_gamma = torch.log_softmax(nets.classifier(z), 1)

        reconstruction = self._negative_log_likelihood(nets.decoder(z), batch.x, self.reconstruction_variance)
        kl_gaussian, kl_cluster = (term.mean() for term in nets.mixture(mu, log_variance, log_gamma))
        loss = reconstruction + kl_gaussian + kl_cluster  # eq. 3.6

        similarity = ops.wasserstein_similarity(
            mu,
            sigma,
            log_gamma.exp(),
            normalization=p.normalization,
            detach_weights=p.detach_weights,
            gather=run.gather if run.world_size > 1 else None,
        )  # eq. 3.9
        similarity = run.over_ranks(similarity)
        if run.epoch >= p.warmup_epochs:
            loss = loss + p.beta * (self.features if p.beta_per == "value" else 1) * similarity  # eq. 3.14
        run.log(reconstruction=reconstruction, kl_gaussian=kl_gaussian, kl_cluster=kl_cluster, similarity=similarity)
        return loss
