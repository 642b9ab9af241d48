"""dec: deep embedded clustering, the encoder trained against its own sharpened assignments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import MethodInfo, param
from deepclust_accel.methods.self_training import SelfTrained, SelfTrainingParams, divergence

__all__ = ["Dec", "DecParams"]


@dataclass
class DecParams(SelfTrainingParams, AutoencoderParams):
    """Settings of dec."""

    optimizer: Literal["adam", "sgd"] = param("sgd", "of clustering")
    learning_rate: float = param(0.01, "of clustering", above=0)


class Dec(SelfTrained, AutoencoderMethod):
    """Encoder and centers minimise KL(P ‖ Q), Q the Student-t assignment of the codes, P its sharpened self.

    Paper: Xie, Girshick & Farhadi, ICML 2016. Differs: pretraining is end to end with Adam unless ``pretraining=stacked``;
    targets are refreshed once an epoch (the authors: every 160 steps on MNIST), and the stop rule is asked at the end of
    an epoch. Cost of an epoch: O(N·(weights + K·Z)), of a refresh one pass over all rows; O(N·K) memory for the targets.
    Assumes round clusters of similar size in the code, with a unit of length of 1 (the kernel's). Known failure: without
    the decoder the code may fold: rows are pulled to a center however they were reconstructed.
    """

    info = MethodInfo("dec", "Xie et al., ICML 2016", "self-training of an encoder with Student-t centers")
    Params = DecParams

    def _refine(self, nets, batch, run: Run) -> Tensor:
        q = nets.centers(nets.encoder(self._inputs(batch.x, run)))
        return divergence(self.targets.rows[batch.index], q)
