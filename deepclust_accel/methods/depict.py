"""depict: a softmax head on a convolutional denoising autoencoder, trained against its own sharpened clean assignment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel import ops
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.autoencoder import mean_square
from deepclust_accel.methods.base import DataSpec, Group, Method, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.images import ImageParams, require_images
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.methods.self_training import Targets
from deepclust_accel.nn.conv import ConvDecoder, ConvEncoder

__all__ = ["Depict", "DepictParams"]


@dataclass
class DepictParams(ImageParams):
    """Settings of depict."""

    latent_dim: int | None = param(None, "width of the code; none: K", unit="units", low=1)
    channels: tuple[int, ...] = param((50, 50), "channels of the convolutions, each halving the image", low=1)
    kernels: tuple[int, ...] = param((5, 5), "sides of their kernels, odd", unit="pixels", low=1)
    dropout: tuple[float, ...] = param(
        (0.1, 0.1, 0.0), "noise: share of each layer's inputs set to zero", low=0, high=0.99
    )
    layer_weights: tuple[float, ...] = param(
        (1.0, 0.1, 0.1), "λ of the reconstruction of image and of each layer", low=0
    )
    batch_size: int = param(100, "rows per step", unit="rows", low=1)
    learning_rate: float = param(1e-4, "Adam's rate of clustering", above=0)
    pretrain_epochs: int = param(50, "epochs of denoising", unit="epochs", low=0)
    pretrain_learning_rate: float = param(1e-3, "Adam's rate of denoising, falling linearly to zero", above=0)
    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    warmup_epochs: int = param(20, "epochs of the head on the first clusters", unit="epochs", low=0)
    epochs: int = param(100, "most epochs of clustering", unit="epochs", low=0)
    target: Literal["squared", "root"] = param("squared", "q ∝ p² / Σp, as in the authors' code, or p / √Σp (root)")
    stop_changed_fraction: float = param(
        0.001, "clustering ends when a refresh moves a smaller share of rows to another cluster", low=0
    )


class _LayeredEncoder(ConvEncoder):
    def forward(self, images, corrupt=None):
        *features, code = self.layers(images, corrupt)
        return [*features, torch.tanh(code)]


class _LayeredDecoder(ConvDecoder):
    def forward(self, z):
        return self.layers(z)


class Depict(Method):
    """Cross-entropy of the noisy path's softmax to the clean path's sharpened one + Σ λ_l |ẑ_l noisy - z_l clean|².

    Paper: Dizaji et al., ICCV 2017. Differs: kernels of 5 with padding, so that images of any size do; first clusters by
    k-means; the head's warm-up on them has a fixed length, where the authors stop by a split that uses labels; targets of
    all rows are refreshed once an epoch. Cost of an epoch: O(N·weights·H·W), two paths; O(N·K) memory for the targets.
    Assumes balanced clusters. Known failure: classes of unequal size are cut by the balance in the target.
    """

    info = MethodInfo(
        "depict",
        "Dizaji et al., ICCV 2017",
        "softmax clustering of a convolutional denoising autoencoder",
        distributed=False,
    )
    Params = DepictParams

    def __init__(self, params: DepictParams, n_clusters: int, data: DataSpec):
        params = replace(params, latent_dim=params.latent_dim or n_clusters)
        super().__init__(params, n_clusters, data)
        p, self._layout = params, require_images(params, data, "depict")
        layers = len(p.channels)
        if not len(p.kernels) == len(p.dropout) - 1 == len(p.layer_weights) - 1 == layers or not all(
            k % 2 for k in p.kernels
        ):
            raise ArgumentError(
                f"kernels, dropout, layer_weights: expected {layers} odd kernels and {layers + 1} of the others for "
                f"channels {p.channels}, got {p.kernels}, {p.dropout}, {p.layer_weights}"
            )
        shape = (self._layout.channels, self._layout.height, self._layout.width)
        self.encoder = _LayeredEncoder(shape, p.channels, p.kernels, p.latent_dim, 0.01)
        self.decoder = _LayeredDecoder(shape, p.channels, p.kernels, p.latent_dim, 0.01)
        self.head = nn.Linear(p.latent_dim, n_clusters)
        self.targets = Targets(n_clusters)
        self.register_buffer("centers", torch.zeros(n_clusters, p.latent_dim))

    def plan(self) -> list[Stage]:
        """Denoising, first clusters, the head on them, clustering."""
        p = self.params
        networks = ("encoder", "decoder")
        falling = Group(networks, p.pretrain_learning_rate, decay=lambda epoch: 1 - epoch / p.pretrain_epochs)
        return [
            Train("pretrain", self._denoise, {"main": falling}, p.pretrain_epochs, p.batch_size),
            Pass("init-head", self._init_head),
            Train("warm-up", self._warm_up, {"main": Group(("head",), p.learning_rate)}, p.warmup_epochs, p.batch_size),
            Train(
                "cluster",
                self._refine,
                {"main": Group((*networks, "head"), p.learning_rate)},
                p.epochs,
                p.batch_size,
                before_epoch=self._refresh,
                stop=lambda run: self.targets.settled(p.stop_changed_fraction),
            ),
            Pass("forget-targets", lambda run: self.targets.forget()),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, Z) in [-1, 1]."""
        return self.encoder(self._layout.to_images(x))[-1]

    def assign(self, z: Tensor) -> Tensor:
        """Softmax of the head."""
        return torch.softmax(self.head(z), 1)

    def _paths(self, nets, x: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        """Code of the noisy path, and the weighted errors of what is decoded from it against the clean path."""
        images = self._layout.to_images(x)

        def corrupt(number: int, values: Tensor) -> Tensor:
            share = self.params.dropout[number]
            if not share:
                return values
            keep = torch.rand(values.shape, generator=run.generator, device=values.device) >= share
            return values * keep / (1 - share)

        clean, noisy = nets.encoder(images), nets.encoder(images, corrupt)[-1]
        decoded = nets.decoder(noisy)
        restored = torch.sigmoid(decoded[0]) if self.data.unit_range else decoded[0]
        pairs = zip((restored, *decoded[1:]), (images, *clean[:-1]), strict=True)
        errors = [F.mse_loss(a, b) for a, b in pairs]
        run.log(**{f"reconstruction_{number}": error for number, error in enumerate(errors)})
        return noisy, sum(w * e for w, e in zip(self.params.layer_weights, errors, strict=True))

    def _denoise(self, nets, batch, run: Run) -> Tensor:
        return self._paths(nets, batch.x, run)[1]

    def _init_head(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.embed)
        centers, labels = first_clusters(codes, self.n_clusters, run, initializer=p.initializer, n_init=p.n_init)
        within = mean_square(codes, lambda rows: centers[labels[rows]], run).mean().clamp_min(1e-6)
        self.centers.copy_(centers)
        self.head.weight.copy_(centers / within)  # the posterior of equal Gaussians at the centers
        self.head.bias.copy_(-0.5 * centers.square().sum(1) / within)

    def _warm_up(self, nets, batch, run: Run) -> Tensor:
        with torch.no_grad():
            z = nets.encoder(self._layout.to_images(batch.x))[-1]
            labels = ops.nearest_center(z, self.centers)[0]
        return F.cross_entropy(nets.head(z), labels)

    def _refresh(self, run: Run) -> None:
        powers = (2.0, 1.0) if self.params.target == "squared" else (1.0, 0.5)
        self.targets.refresh(run.collect(lambda x: self.assign(self.embed(x))), run, *powers)
        run.log(changed=self.targets.changed)

    def _refine(self, nets, batch, run: Run) -> Tensor:
        noisy, reconstruction = self._paths(nets, batch.x, run)
        clustering = F.cross_entropy(nets.head(noisy), self.targets.rows[batch.index])
        run.log(clustering=clustering)
        return clustering + reconstruction
