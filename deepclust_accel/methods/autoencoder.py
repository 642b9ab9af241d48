"""What all autoencoder methods share: settings, networks and the stages that pretrain them on reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.base import DataSpec, Group, Method, Params, Train, param
from deepclust_accel.nn.mlp import Mlp

__all__ = ["AutoencoderMethod", "AutoencoderParams"]


@dataclass
class AutoencoderParams(Params):
    """Settings of the networks and of pretraining."""

    hidden: tuple[int, ...] = param(
        (500, 500, 2000), "widths of the encoder's hidden layers; the decoder mirrors them", unit="units", low=1
    )
    latent_dim: int = param(10, "width of the code", unit="units", low=1)
    decoder: Literal["gaussian", "bernoulli"] = param(
        "gaussian", "likelihood of a value given its code: gaussian for real values, bernoulli for binary ones"
    )
    pretraining: Literal["stacked", "plain"] = param(
        "plain", "plain: end to end; stacked: layer by layer with corrupted inputs first"
    )
    layer_epochs: int = param(10, "stacked pretraining: epochs of each layer", unit="epochs", low=0)
    pretrain_epochs: int = param(50, "epochs of pretraining end to end", unit="epochs", low=0)
    pretrain_batch_size: int = param(256, "rows per step of pretraining", unit="rows", low=1)
    pretrain_learning_rate: float = param(
        1e-3, "Adam's rate at the start of pretraining; it falls linearly to zero end to end", above=0
    )
    corruption: float = param(0.2, "stacked pretraining: share of inputs set to zero", low=0, high=0.99)


class AutoencoderMethod(Method):
    """A method with an ``encoder`` and a mirrored ``decoder`` (fully connected) and their pretraining.

    Equal seeds and settings give every such method the same pretrained networks, because they are built and trained first.
    """

    def __init__(self, params: AutoencoderParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        if params.decoder == "bernoulli" and not data.unit_range:
            raise ArgumentError(
                "decoder: expected gaussian for values outside [0, 1], got bernoulli; use --scaling unit or "
                "decoder=gaussian"
            )
        widths = (self.features, *params.hidden)
        self.encoder = Mlp(*widths, params.latent_dim)
        self.decoder = Mlp(params.latent_dim, *reversed(widths))

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, Z), the code."""
        return self.encoder(x)

    def pretraining(self) -> list[Train]:
        """Return the stages that train encoder and decoder on reconstruction (Vincent et al. 2010; Xie et al. 2016)."""
        p = self.params
        group = {"main": Group(("encoder", "decoder"), p.pretrain_learning_rate)}
        # At a constant rate k-means on the codes jumps by several points from one epoch to the next.
        falling = {"main": replace(group["main"], decay=lambda epoch: 1 - epoch / p.pretrain_epochs)}
        stages = []
        if p.pretraining == "stacked":
            stages = [
                Train(
                    f"pretrain-layer-{depth + 1}", self._layer_step(depth), group, p.layer_epochs, p.pretrain_batch_size
                )
                for depth in range(len(self.encoder))
            ]
        return [*stages, Train("pretrain", self._reconstruct, falling, p.pretrain_epochs, p.pretrain_batch_size)]

    def _mean(self, output: Tensor) -> Tensor:
        """The decoder's mean of each value; a sigmoid keeps it in [0, 1] where all values lie."""
        return torch.sigmoid(output) if self.data.unit_range else output

    def _reconstruct(self, nets, batch, run: Run) -> Tensor:
        restored = self._mean(nets.decoder(nets.encoder(batch.x)))
        return F.mse_loss(restored, batch.x.flatten(1))

    def _layer_step(self, depth: int):
        """Step that trains encoder layer ``depth`` and the decoder layer opposite to it as a denoising autoencoder."""
        layers = len(self.encoder)

        def step(nets, batch, run: Run) -> Tensor:
            with torch.no_grad():
                target = nets.encoder(batch.x, 0, depth) if depth else batch.x.flatten(1)
            keep = torch.rand(target.shape, generator=run.generator, device=target.device) >= self.params.corruption
            code = nets.encoder(target * keep, depth, depth + 1)
            restored = nets.decoder(code, layers - 1 - depth, layers - depth)
            restored = self._mean(restored) if depth == 0 else restored
            return F.mse_loss(restored, target)

        return step
