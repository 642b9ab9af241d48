"""vade: a variational autoencoder with a Gaussian mixture as its prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import choose_decoder
from deepclust_accel.methods.base import DataSpec, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.variational import VariationalMethod, VariationalParams

__all__ = ["Vade", "VadeParams"]


@dataclass
class VadeParams(VariationalParams):
    """Settings of vade."""

    decoder: Literal["auto", "gaussian", "bernoulli"] = param(
        "auto",
        "likelihood of a value given its code; auto: bernoulli where all values lie in [0, 1], as the authors have it",
    )
    batch_size: int = param(100, "rows per step of joint training", unit="rows", low=1)
    learning_rate: float = param(
        5e-4, "Adam's rate at the start of joint training; the authors' 0.002 can undo the initialisation", above=0
    )
    reconstruction_variance: float | None = param(
        0.5, "λ, variance of the gaussian decoder; none: the pretrained autoencoder's mean squared residual", above=0
    )
    code_scale: float | None = param(
        None, "codes are rescaled to this mean standard deviation after pretraining; none leaves them", above=0
    )


class Vade(VariationalMethod):
    """Variational autoencoder whose prior is a mixture; a row's cluster is the mixture's posterior at its code.

    Paper: Jiang et al., IJCAI 2017: -log p(x | z) + Σ_k γ_k KL(q(z | x) ‖ p(z | k)) + KL(γ ‖ π) with γ = p(c | z) at the
    sample z that is decoded. Differs: the mixture starts from k-means on the codes, q(z | x) narrow inside it
    (``posterior_share=none``: from an untrained layer, as in the authors' code); nearer to them, who run EM on MNIST and
    HHAR, is ``initializer=GaussianMixture(covariance_type='diag')``. No restart is judged by labels; weights of the mixture
    are a softmax. Cost of an epoch: O(N·(weights + K·Z)). Assumes Gaussian clusters in the
    code. Known failure: the prior's clusters can merge or die early in joint training, when the divergence outweighs a
    reconstruction that is still poor.

    Defaults that the paper does not give were chosen while looking at the accuracy of a few seeds on digits.
    """

    info = MethodInfo("vade", "Jiang et al., IJCAI 2017", "variational autoencoder with a mixture prior")
    Params = VadeParams

    def __init__(self, params: VadeParams, n_clusters: int, data: DataSpec):
        super().__init__(choose_decoder(params, data), n_clusters, data)
        self._add_mixture()

    def plan(self) -> list[Stage]:
        """Pretrain, mixture on the codes, joint training."""
        p = self.params
        return [
            *self.pretraining(),
            Pass("init-mixture", self._init_mixture),
            Train("joint", self._joint, self._joint_group(), p.epochs, p.batch_size),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """γ = p(c | z) at the posterior mean."""
        return self.mixture.posterior(z).exp()

    def _joint(self, nets, batch, run: Run) -> Tensor:
        mu, log_variance, z = self._sample(nets, batch.x, run)
        reconstruction = self._negative_log_likelihood(nets.decoder(z), batch.x, self.reconstruction_variance)
        log_gamma = self.mixture.posterior(z)
        kl_gaussian, kl_cluster = (term.mean() for term in nets.mixture(mu, log_variance, log_gamma))
        run.log(reconstruction=reconstruction, kl_gaussian=kl_gaussian, kl_cluster=kl_cluster)
        return reconstruction + kl_gaussian + kl_cluster
