"""aae: an autoencoder whose code is a category and a style, both kept in shape by discriminators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.base import DataSpec, Group, Method, MethodInfo, Params, Stage, Train, Update, param
from deepclust_accel.nn.frozen import frozen
from deepclust_accel.nn.mlp import Mlp

__all__ = ["Aae", "AaeParams"]


@dataclass
class AaeParams(Params):
    """Settings of aae."""

    hidden: tuple[int, ...] = param(
        (1000, 1000), "hidden layers of every network; the decoder mirrors them", unit="units", low=1
    )
    latent_dim: int = param(10, "width of the style", unit="units", low=1)
    batch_size: int = param(100, "rows per step", unit="rows", low=2)
    epochs: int = param(100, "epochs of training", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate of encoder and decoder", above=0)
    discriminator_learning_rate: float = param(1e-3, "Adam's rate of the discriminators", above=0)
    adversarial_weight: float = param(0.1, "weight of fooling the discriminators beside the mean squared error", low=0)


class _Encoder(nn.Module):
    """Logits of the category, each normalized over the batch so that none is out of the race, then the style."""

    def __init__(self, n_clusters: int, *widths: int):
        super().__init__()
        self.body, self.norm = Mlp(*widths), nn.BatchNorm1d(n_clusters, affine=False)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        code = self.body(x)
        k = self.norm.num_features
        return torch.cat([self.gain * self.norm(code[:, :k]), code[:, k:]], 1)


class Aae(Method):
    """Encoder → category y (softmax) and style z; decoder (y, z) → x̂; two discriminators compare y and z with their priors.

    Paper: Makhzani et al., arXiv 1511.05644, the unsupervised variant (sect. 6). A step is three updates: reconstruction;
    the discriminators, against uniform one-hot vectors and N(0, I); the encoder, to fool both. Differs: Adam, one optimizer
    for both tasks of the encoder, weights and rates ours; the category's logits are normalized over the batch, without which
    every row went to one category on digits. No pretraining and no k-means. Cost of an epoch: O(N·weights),
    three passes. Assumes classes of equal size. Known failure: categories may cut the data by any discrete trait, and vary
    from seed to seed; the authors' error rates are for more clusters than classes.

    Defaults that the paper does not give were chosen while looking at the accuracy of a few seeds on digits.
    """

    info = MethodInfo(
        "aae", "Makhzani et al., arXiv 1511.05644", "adversarial autoencoder with a categorical code", distributed=False
    )
    Params = AaeParams

    def __init__(self, params: AaeParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        code, widths = n_clusters + params.latent_dim, (self.features, *params.hidden)
        self.encoder, self.decoder = _Encoder(n_clusters, *widths, code), Mlp(code, *reversed(widths))
        self.category_discriminator = Mlp(n_clusters, *params.hidden, 1)
        self.style_discriminator = Mlp(params.latent_dim, *params.hidden, 1)

    def plan(self) -> list[Stage]:
        """One stage."""
        p = self.params
        discriminators = ("category_discriminator", "style_discriminator")
        groups = {
            "main": Group(("encoder", "decoder"), p.learning_rate),
            "discriminators": Group(discriminators, p.discriminator_learning_rate),
        }
        return [Train("train", self._step, groups, p.epochs, p.batch_size, needs_equal_shards=True)]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, K + Z): logits of the category, then the style."""
        return self.encoder(x)

    def assign(self, z: Tensor) -> Tensor:
        """y."""
        return torch.softmax(z[:, : self.n_clusters], 1)

    def _split(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self.assign(code), code[:, self.n_clusters :]

    def _step(self, nets, batch, run: Run) -> Iterator[Update]:
        x = batch.x.flatten(1)
        output = nets.decoder(torch.cat(self._split(nets.encoder(x)), 1))
        reconstruction = F.mse_loss(torch.sigmoid(output) if self.data.unit_range else output, x)
        yield Update(reconstruction, logs={"reconstruction": reconstruction})

        category, style = self._split(nets.encoder(x))  # for both: the discriminators do not move the encoder
        drawn = torch.randint(self.n_clusters, (len(x),), generator=run.generator, device=x.device)
        real_category = F.one_hot(drawn, self.n_clusters).to(x.dtype)
        real_style = torch.randn(style.shape, generator=run.generator, device=x.device)
        of_category = _real(nets.category_discriminator(real_category), 1) + _real(
            nets.category_discriminator(category.detach()), 0
        )
        of_style = _real(nets.style_discriminator(real_style), 1) + _real(nets.style_discriminator(style.detach()), 0)
        logs = {"category_discrimination": of_category, "style_discrimination": of_style}
        yield Update(of_category + of_style, "discriminators", logs)

        with frozen(self.category_discriminator, self.style_discriminator):
            fooled_category = _real(nets.category_discriminator(category), 1)
            fooled_style = _real(nets.style_discriminator(style), 1)
        logs = {"category_fooling": fooled_category, "style_fooling": fooled_style}
        yield Update(self.params.adversarial_weight * (fooled_category + fooled_style), logs=logs)


def _real(logits: Tensor, wanted: float) -> Tensor:
    """Mean binary cross-entropy of a discriminator's logits to being real (1) or not (0)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))
