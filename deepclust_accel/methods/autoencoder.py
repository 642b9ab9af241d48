"""What autoencoder methods share: settings, networks and the stages that pretrain them on reconstruction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel.config import to_mapping
from deepclust_accel.data.room import pieces
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.base import DataSpec, Group, Method, Params, Train, param
from deepclust_accel.nn.images import ToImages
from deepclust_accel.nn.mlp import Mlp

__all__ = [
    "AutoencoderMethod",
    "AutoencoderParams",
    "ReconstructionMethod",
    "ReconstructionParams",
    "choose_decoder",
    "deviation",
    "mean_square",
]


@dataclass
class ReconstructionParams(Params):
    """Settings of any autoencoder and of its pretraining end to end."""

    latent_dim: int = param(10, "width of the code", unit="units", low=1)
    decoder: Literal["gaussian", "bernoulli"] = param(
        "gaussian", "likelihood of a value given its code: gaussian for real values, bernoulli for binary ones"
    )
    pretrain_epochs: int = param(50, "epochs of pretraining end to end", unit="epochs", low=0)
    pretrain_batch_size: int = param(256, "rows per step of pretraining", unit="rows", low=1)
    pretrain_learning_rate: float = param(
        1e-3, "Adam's rate at the start of pretraining; it falls linearly to zero end to end", above=0
    )


@dataclass
class AutoencoderParams(ReconstructionParams):
    """Settings of a fully connected autoencoder and of its pretraining."""

    hidden: tuple[int, ...] = param(
        (500, 500, 2000), "widths of the encoder's hidden layers; the decoder mirrors them", unit="units", low=1
    )
    pretraining: Literal["stacked", "plain"] = param(
        "plain", "plain: end to end; stacked: layer by layer with corrupted inputs first"
    )
    layer_epochs: int = param(10, "stacked pretraining: epochs of each layer", unit="epochs", low=0)
    corruption: float = param(0.2, "stacked pretraining: share of inputs set to zero", low=0, high=0.99)
    slope: float = param(0.0, "of the leaky ReLU below zero; 0 is ReLU", low=0)
    weight_init: Literal["torch", "xavier"] = param(
        "torch",
        "initial weights of encoder and decoder: PyTorch's own, or Glorot's (xavier) without offsets, as Keras has it",
    )


def choose_decoder(params: ReconstructionParams, data: DataSpec) -> ReconstructionParams:
    """The settings with decoder=auto replaced by what fits the values: bernoulli where all lie in [0, 1]."""
    if params.decoder != "auto":
        return params
    return replace(params, decoder="bernoulli" if data.unit_range else "gaussian")


def deviation(codes: Tensor, run: Run) -> Tensor:
    """Standard deviation (Z,) of the codes (n, Z) of all ranks, around their mean."""
    if run.world_size == 1:
        return codes.std(0, unbiased=False)
    mean = run.mean_rows(codes)
    return mean_square(codes, lambda rows: mean, run).sqrt()


def mean_square(codes: Tensor, around: Callable[[slice], Tensor], run: Run) -> Tensor:
    """Mean squared distance (Z,), per dimension, of the codes (n, Z) of all ranks from a point, or one for each row."""
    total = codes.new_zeros(codes.shape[1], dtype=torch.float64)
    for rows in pieces(codes):
        total += (codes[rows] - around(rows)).square().sum(0, dtype=torch.float64)
    return (run.sum_ranks(total) / run.rows).to(codes.dtype)


# What pretraining depends on besides settings. Tensors that are equal in shape do not make networks equal.
_SHARED = ("_networks", "_inputs", "_mean", "_reconstruct", "mean_squared_error")


class ReconstructionMethod(Method):
    """A method with an ``encoder`` and a ``decoder``, and their pretraining.

    Equal seeds and settings give every such method the same pretrained networks, because they are built and trained first.
    """

    def __init__(self, params: ReconstructionParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        if params.decoder == "bernoulli" and not data.unit_range:
            raise ArgumentError(
                "decoder: expected gaussian for values outside [0, 1], got bernoulli; use --scaling unit or "
                "decoder=gaussian"
            )
        self.encoder, self.decoder = self._networks()

    @abstractmethod
    def _networks(self) -> tuple[nn.Module, nn.Module]:
        """Encoder (B, *shape) → (B, Z) and decoder (B, Z) → (B, D)."""

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, Z), the code."""
        return self.encoder(x)

    def pretraining(self) -> list[Train]:
        """Return the stages that train encoder and decoder on reconstruction (Vincent et al. 2010; Xie et al. 2016)."""
        p = self.params
        # At a constant rate k-means on the codes jumps by several points from one epoch to the next.
        falling = Group(
            ("encoder", "decoder"), p.pretrain_learning_rate, decay=lambda epoch: 1 - epoch / p.pretrain_epochs
        )
        return [self._pretrain("pretrain", self._reconstruct, falling, p.pretrain_epochs)]

    def _pretrain(self, name: str, step: Callable, group: Group, epochs: int, **facts: Any) -> Train:
        """A stage of pretraining that other methods can take over.

        A subclass with networks of its own, or that changes how rows are shown or compared, shares them only with its like,
        with equal settings and rows of the same shape.
        """
        own = [name for name in _SHARED if getattr(type(self), name) is not getattr(AutoencoderMethod, name)]
        image = self.data.image_shape and list(self.data.image_shape)
        layout = next((m.layout for m in self.encoder.modules() if isinstance(m, ToImages)), None)
        recipe = {
            "epochs": epochs,
            "batch_size": self.params.pretrain_batch_size,
            "learning_rate": group.learning_rate,
            "falling": group.decay is not None,
            "function": {  # what equal tensors do not say of the networks
                "unit_range": self.data.unit_range,
                "slope": getattr(self.encoder, "slope", None),
                "image": layout and asdict(layout),
            },
            **facts,
            **({"only": [type(self).__qualname__, own, to_mapping(self.params), image]} if own else {}),
        }
        return Train(name, step, {"main": group}, epochs, self.params.pretrain_batch_size, recipe=recipe)

    def _inputs(self, x: Tensor, run: Run) -> Tensor:
        """The rows as the networks see them in training; methods that augment do it here."""
        return x

    def _mean(self, output: Tensor) -> Tensor:
        """The decoder's mean of each value; a sigmoid keeps it in [0, 1] where all values lie."""
        return torch.sigmoid(output) if self.data.unit_range else output

    def _reconstruct(self, nets, batch, run: Run) -> Tensor:
        x = self._inputs(batch.x, run)
        return self.mean_squared_error(nets.decoder(nets.encoder(x)), x)

    def mean_squared_error(self, output: Tensor, x: Tensor) -> Tensor:
        """Mean over rows and values of the squared error of what the decoder says of x."""
        return F.mse_loss(self._mean(output), x.flatten(1))

    def _negative_log_likelihood(self, output: Tensor, x: Tensor, variance: Tensor | float = 0.5) -> Tensor:
        """Mean over rows of -log p(x | z), summed over the values of a row, but for a constant; λ = ``variance``."""
        x = x.flatten(1)
        if self.params.decoder == "bernoulli":
            return F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(1).mean()
        return (self._mean(output) - x).square().sum(1).mean() / (2 * variance)


class AutoencoderMethod(ReconstructionMethod):
    """A method whose encoder and mirrored decoder are fully connected; they can be pretrained layer by layer."""

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        p, widths = self.params, (self.features, *self.params.hidden)
        networks = Mlp(*widths, p.latent_dim, slope=p.slope), Mlp(p.latent_dim, *reversed(widths), slope=p.slope)
        if p.weight_init == "xavier":
            for layer in (layer for network in networks for layer in network.layers):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return networks

    def pretraining(self) -> list[Train]:
        """Return the stages that train encoder and decoder, layer by layer first where that is asked for."""
        p, layers = self.params, []
        if p.pretraining == "stacked":
            group = Group(("encoder", "decoder"), p.pretrain_learning_rate)
            layers = [
                self._pretrain(
                    f"pretrain-layer-{depth + 1}",
                    self._layer_step(depth),
                    group,
                    p.layer_epochs,
                    corruption=p.corruption,
                )
                for depth in range(len(self.encoder))
            ]
        return [*layers, *super().pretraining()]

    def _rescale(self, factor: Tensor) -> None:
        """Divide the codes by ``factor`` and let the decoder undo it, so that reconstructions stay as they are."""
        factor = factor.clamp_min(1e-6)
        self.encoder.layers[-1].weight /= factor
        self.encoder.layers[-1].bias /= factor
        self.decoder.layers[0].weight *= factor

    def _layer_step(self, depth: int):
        """Step that trains encoder layer ``depth`` and the decoder layer opposite to it as a denoising autoencoder."""
        layers = len(self.encoder)

        def step(nets, batch, run: Run) -> Tensor:
            with torch.no_grad():
                target = nets.encoder(batch.x, 0, depth) if depth else batch.x.flatten(1)
            drawn = run.per_row(lambda g, n: torch.rand(n, target.shape[1], generator=g, device=target.device))
            keep = drawn >= self.params.corruption
            code = nets.encoder(target * keep, depth, depth + 1)
            restored = nets.decoder(code, layers - 1 - depth, layers - depth)
            restored = self._mean(restored) if depth == 0 else restored
            return F.mse_loss(restored, target)

        return step
