"""idec: DEC that keeps its decoder, so that the code goes on saying what a row looked like."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import MethodInfo, param
from deepclust_accel.methods.self_training import SelfTrained, SelfTrainingParams, divergence

__all__ = ["Idec", "IdecParams", "ReconstructedSelfTraining", "ReconstructedSelfTrainingParams"]


@dataclass
class ReconstructedSelfTrainingParams(SelfTrainingParams):
    """Settings of self-training beside reconstruction."""

    cluster_weight: float = param(0.1, "γ, weight of the divergence beside the mean squared error", low=0)


@dataclass
class IdecParams(ReconstructedSelfTrainingParams, AutoencoderParams):
    """Settings of idec."""


class ReconstructedSelfTraining(SelfTrained):
    """Self-training with the loss MSE(x̂, x) + γ KL(P ‖ Q) (Guo et al. 2017, eq. 9)."""

    _clustered = ("encoder", "decoder")

    def _refine(self, nets, batch, run: Run) -> Tensor:
        x = self._inputs(batch.x, run)
        z = nets.encoder(x)
        reconstruction = self.mean_squared_error(nets.decoder(z), x)
        clustering = divergence(self.targets.rows[batch.index], nets.centers(z))
        run.log(reconstruction=reconstruction, clustering=clustering)
        return reconstruction + self.params.cluster_weight * clustering


class Idec(ReconstructedSelfTraining, AutoencoderMethod):
    """Autoencoder and centers minimise MSE(x̂, x) + γ KL(P ‖ Q).

    Paper: Guo et al., IJCAI 2017. Differs: targets are refreshed once an epoch (the authors: every 140 steps on MNIST, 30
    on USPS, 3 on REUTERS-10K), the stop rule is asked at the end of an epoch, batches are shuffled, and the optimizer is
    Adam on every set. Cost of an epoch: O(N·(weights + K·Z)), of a refresh one pass over all rows; O(N·K) memory for the
    targets. Assumes round clusters of similar size in the code, with a unit of length of 1 (the kernel's). Known failure:
    it refines the clusters of its initialisation; classes that those merge stay merged.
    """

    info = MethodInfo("idec", "Guo et al., IJCAI 2017", "self-training of an autoencoder with Student-t centers")
    Params = IdecParams
