"""What VaDE and DVAE share: a Gaussian code with a mixture prior, started inside the clusters of a pretrained code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams, deviation, mean_square
from deepclust_accel.methods.base import Group, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.mixture import DiagonalMixture
from deepclust_accel.nn.mlp import Mlp

__all__ = ["VariationalMethod", "VariationalParams"]


@dataclass
class VariationalParams(AutoencoderParams):
    """Settings of a variational autoencoder with a mixture prior."""

    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    batch_size: int = param(300, "rows per step of joint training", unit="rows", low=1)
    epochs: int = param(80, "epochs of joint training", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate at the start of joint training", above=0)
    decay: float = param(0.9, "factor on the rate every decay_epochs", above=0, high=1)
    decay_epochs: int = param(10, "epochs between two decays of the rate", unit="epochs", low=1)
    adam_eps: float = param(1e-4, "Adam's eps", above=0)
    reconstruction_variance: float | None = param(
        None, "λ, variance of the gaussian decoder; none: the pretrained autoencoder's mean squared residual", above=0
    )
    code_scale: float | None = param(
        0.5, "codes are rescaled to this mean standard deviation after pretraining; none leaves them", above=0
    )
    posterior_share: float | None = param(
        0.135,
        "variance of q(z|x) at the start, as a share of the variance within clusters; none: that of an untrained layer",
        above=0,
    )


class VariationalMethod(AutoencoderMethod):
    """An autoencoder method whose code is Gaussian, its log-variance read from the encoder's last hidden layer."""

    def _add_mixture(self) -> None:
        p = self.params
        self.mixture = DiagonalMixture(self.n_clusters, p.latent_dim)
        self.log_variance = Mlp((self.features, *p.hidden)[-1], p.latent_dim)
        self.register_buffer("reconstruction_variance", torch.tensor(p.reconstruction_variance or 1.0))

    def cluster_centers(self) -> Tensor:
        """(K, Z) means of the mixture prior."""
        return self.mixture.mean

    def _joint_group(self, *parts: str) -> dict[str, Group]:
        p = self.params
        return {
            "main": Group(
                ("encoder", "decoder", "log_variance", *parts, "mixture"),
                p.learning_rate,
                options={"eps": p.adam_eps},
                decay=lambda epoch: p.decay ** (epoch // p.decay_epochs),
            )
        }

    def _init_mixture(self, run: Run) -> None:
        p = self.params
        if p.reconstruction_variance is None:
            residual = run.collect(lambda x: (self._mean(self.decoder(self.embed(x))) - x.flatten(1)).square().mean(1))
            self.reconstruction_variance.copy_(run.mean_rows(residual).clamp_min(1e-6))
        if p.code_scale is not None:
            self._rescale(deviation(run.collect(self.embed), run).mean() / p.code_scale)
        codes = run.collect(self.embed)
        centers, labels = first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)
        self.mixture.mean.copy_(centers)
        self.mixture.set_from_clusters(codes, labels, run.sum_ranks)
        if p.posterior_share is not None:
            within = mean_square(codes, lambda rows: self.mixture.mean[labels[rows]], run).clamp_min(1e-6)
            head = self.log_variance.layers[0]
            head.weight.zero_()
            head.bias.copy_(torch.log(within * p.posterior_share))

    def _sample(self, nets, x: Tensor, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, log-variance and one sample of q(z | x)."""
        last = len(self.encoder) - 1
        hidden = nets.encoder(x, 0, last)
        mu, log_variance = nets.encoder(hidden, last), nets.log_variance(hidden)
        noise = run.per_row(lambda g, n: torch.randn(n, mu.shape[1], generator=g, device=mu.device, dtype=mu.dtype))
        return mu, log_variance, mu + torch.exp(0.5 * log_variance) * noise
