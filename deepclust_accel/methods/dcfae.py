"""DCFAE: a VAE-GAN of residual blocks, and an embedding of its code that keeps the code's neighbourhoods.

S. Chang, arXiv 2201.04727; networks, losses and defaults are those of the author's published code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.ae_kmeans import nearest_one_hot
from deepclust_accel.methods.autoencoder import choose_decoder
from deepclust_accel.methods.base import DataSpec, Group, Method, MethodInfo, Pass, Stage, Train, Update, param
from deepclust_accel.methods.images import AugmentationParams, augmented, image_layout
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.frozen import frozen
from deepclust_accel.nn.mlp import Mlp
from deepclust_accel.nn.residual import ResidualDecoder, ResidualEncoder, glorot

__all__ = ["Dcfae", "DcfaeParams"]


@dataclass
class DcfaeParams(AugmentationParams):
    """Settings of dcfae."""

    latent_dim: int = param(50, "width of the code", unit="units", low=1)
    embed_dim: int = param(50, "width of the embedding that is clustered", unit="units", low=1)
    networks: Literal["auto", "images", "vectors"] = param(
        "auto", "convolutions for images, linear layers for vectors; auto: images where rows are known to be such"
    )
    channels: tuple[int, ...] = param((64, 128, 256, 512), "of the encoder's halvings; the decoder mirrors them", low=1)
    discriminator_channels: tuple[int, ...] = param((32, 64, 512), "of the discriminator's halvings", low=1)
    residual_blocks: bool = param(True, "a residual block after each halving; false is an ablation")
    embedding_hidden: tuple[int, ...] = param(
        (2048, 512, 512), "hidden layers of the embedding network", unit="units", low=1
    )
    embedding_dropout: float = param(
        0.0, "of those layers; 0.3 is declared by the author's code but never acts", low=0, high=0.99
    )
    embedding_l2: float = param(0.0, "weight of their squared weights; 0.001 is declared but never acts", low=0)
    decoder: Literal["auto", "gaussian", "bernoulli"] = param(
        "auto", "likelihood of a value given its code; auto: bernoulli where all values lie in [0, 1]"
    )
    pixels: int | None = param(
        1024,
        "reconstruction is weighed as that of so many pixels, the author's 32 x 32; none: of as many as there are",
        low=1,
    )
    pretrain_epochs: int = param(100, "epochs of the first stage, the VAE-GAN alone", unit="epochs", low=0)
    epochs: int = param(100, "epochs of the second stage, with embedding and augmentation", unit="epochs", low=0)
    batch_size: int = param(256, "rows per step; the similarity loss is over all pairs of them", unit="rows", low=2)
    least_steps: int = param(
        32,
        "of an epoch: few rows come in batches smaller than batch_size, of 16 at least (the author has 273 steps of "
        "MNIST); 1 leaves them as they are",
        unit="steps",
        low=1,
    )
    pretrain_learning_rate: float = param(
        1e-3, "Adam's rate in the first stage, of both optimizers; the author has 0.0001", above=0
    )
    learning_rate: float = param(3e-4, "and in the second; the author has 0.0001", above=0)
    gan_weight: float = param(100.0, "λ₁, weight of fooling the discriminator; 0 (an ablation) has none", low=0)
    similarity_weight: float = param(
        10.0, "λ₂, weight of the similarity loss; 0 (an ablation) clusters the code itself", low=0
    )
    dof_latent: float | None = param(None, "a, degrees of freedom in the code; none: twice its width", above=0)
    dof_embed: float = param(1.0, "b, degrees of freedom in the embedding", above=0)
    normalization: Literal["rows", "global"] = param(
        "rows", "similarities sum to 1 over each row's pairs, and the loss is a mean; or (the author's) over all pairs"
    )
    include_diagonal: bool = param(False, "pairs of a row with itself take part, as in the author's code")
    detach_target: bool = param(False, "the code gets no gradient through its own similarities")
    label_noise: float = param(0.05, "the discriminator's targets are 0 and 1 plus uniform noise up to this", low=0)
    augment: bool = param(True, "distort images in the second stage")
    shift: float = param(0.0625, "augmentation: largest shift, share of the side", low=0, high=1)
    clusterer: str = initializer_param("the clusters of the embedding")
    n_init: int = param(20, "restarts of the clusterer, where it has such", low=1)


class Dcfae(Method):
    """Variational autoencoder + GAN of residual blocks ("fusion autoencoder"), t-similarity loss on an embedding, k-means.

    Paper: S. Chang, arXiv 2201.04727; what is here is the author's code. First stage: reconstruction + KL + λ₁ · fooling a
    discriminator of reconstructions. Second: + λ₂ times the cross-entropy between Student-t similarities of the code's means
    and of their embedding, on augmented images. Differs: images keep their size (he resizes to 32 x 32), which ``pixels``
    makes up for in the balance of the losses; shifts are not whole pixels; k-means where his last revision has spectral
    clustering (``clusterer=SpectralClustering``; all rows then go to the nearest of its clusters' means). Rows that are no
    images get linear layers of the same widths and no augmentation. With the author's similarities (``include_diagonal=true
    normalization=global``) the code's are nearly those of each row with itself, and the loss mostly spreads the embedding;
    his rate (``pretrain_learning_rate=0.0001 learning_rate=0.0001``) wants the 27,000 steps that 100 epochs of MNIST have.
    Cost of an epoch: O(N·weights·H·W) + O(N·batch·(Z + E)). Assumes that neighbours in the code are of one class. Known
    failure: where reconstruction weighs too little beside the other losses (``pixels=none`` on 8 x 8), the code collapses;
    and a code of a few hundred steps has no clusters yet, hence ``least_steps``.

    Defaults that differ from the author's were chosen while looking at the accuracy of one seed on USPS and digits.
    """

    info = MethodInfo("dcfae", "Chang, arXiv 2201.04727", "VAE-GAN of residual blocks, embedding by t-similarity")
    Params = DcfaeParams

    def __init__(self, params: DcfaeParams, n_clusters: int, data: DataSpec):
        super().__init__(choose_decoder(params, data), n_clusters, data)
        p, self._layout = self.params, None if params.networks == "vectors" else image_layout(params, data)
        if p.networks == "images" and self._layout is None:
            raise ArgumentError(f"image_shape: expected that of a row of {self.features} values, got none; set it")
        if p.decoder == "bernoulli" and not data.unit_range:
            raise ArgumentError(
                "decoder: expected gaussian for values outside [0, 1], got bernoulli; use --scaling unit"
            )
        for name in ("channels", "discriminator_channels"):
            if not getattr(p, name):
                raise ArgumentError(f"{name}: expected at least one halving, got none; give a number for each")
        layout = self._layout
        shape = (layout.channels, layout.height, layout.width) if layout else (self.features,)
        self.encoder = ResidualEncoder(shape, p.channels, (p.latent_dim, p.latent_dim), p.residual_blocks)
        self.decoder = ResidualDecoder(shape, p.channels, p.latent_dim, p.residual_blocks)
        if p.gan_weight:
            self.discriminator = ResidualEncoder(shape, p.discriminator_channels, (1,), p.residual_blocks)
        if p.similarity_weight:
            self.embedding = Mlp(p.latent_dim, *p.embedding_hidden, p.embed_dim, dropout=p.embedding_dropout)
            self.embedding.apply(glorot)
        self.register_buffer("centers", torch.zeros(n_clusters, p.embed_dim if p.similarity_weight else p.latent_dim))

    def plan(self) -> list[Stage]:
        """The VAE-GAN, then all of it on augmented images, then k-means on the embedding."""
        p, parts = self.params, [name for name in self.parts() if name != "discriminator"]
        first = {"main": Group(("encoder", "decoder"), p.pretrain_learning_rate)}
        second = {"main": Group(tuple(parts), p.learning_rate)}
        if p.gan_weight:
            first["discriminator"] = Group(("discriminator",), p.pretrain_learning_rate)
            second["discriminator"] = Group(("discriminator",), p.learning_rate)
        batches = {"batch_size": p.batch_size, "least_steps": p.least_steps}
        return [
            Train("pretrain", partial(self._step, False), first, p.pretrain_epochs, **batches),
            Train("joint", partial(self._step, True), second, p.epochs, **batches, needs_equal_shards=True),
            Pass("k-means", self._cluster),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, E), the embedding of the code's mean; without the similarity loss that mean."""
        mean = self.encoder(self._images(x))[0]
        return self.embedding(mean) if self.params.similarity_weight else mean

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the nearest center."""
        return nearest_one_hot(z, self.centers)

    def cluster_centers(self) -> Tensor:
        """(K, E) means of the embeddings."""
        return self.centers

    def _images(self, x: Tensor) -> Tensor:
        return self._layout.to_images(x) if self._layout else x.flatten(1)

    def _step(self, second: bool, nets, batch, run: Run) -> Iterator[Update]:
        p, x = self.params, batch.x
        if second and p.augment and self._layout:
            x = augmented(p, self._layout, x, run)
        x = self._images(x)
        mean, log_variance = nets.encoder(x)
        kind = {"device": mean.device, "dtype": mean.dtype}
        noise = run.per_row(lambda g, n: torch.randn(n, p.latent_dim, generator=g, **kind))
        output = nets.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        restored = torch.sigmoid(output) if self.data.unit_range else output
        terms = {
            "reconstruction": self._reconstruction(output, restored, x),
            "kl": -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean(),
        }
        loss = terms["reconstruction"] + terms["kl"]
        if p.gan_weight:
            with frozen(self.discriminator):
                terms["gan"] = _verdict(nets.discriminator(restored)[0], 1.0)
            loss = loss + p.gan_weight * terms["gan"]
        if second and p.similarity_weight:
            terms["similarity"] = self._similarity(mean, nets.embedding(mean), run)
            decay = sum(layer.weight.square().sum() for layer in self.embedding.layers) if p.embedding_l2 else 0.0
            loss = loss + p.similarity_weight * terms["similarity"] + p.embedding_l2 * decay
        yield Update(loss, "main", terms)
        if p.gan_weight:  # of the reconstructions from before the update, which touched no weight of the discriminator
            yield Update(self._discrimination(nets.discriminator, restored.detach(), x, run), "discriminator")

    def _reconstruction(self, output: Tensor, restored: Tensor, x: Tensor) -> Tensor:
        """Sum over pixels of -log p(x | z), mean over channels and rows, as if there were ``pixels`` of them."""
        if self.params.decoder == "bernoulli":
            loss = F.binary_cross_entropy_with_logits(output, x)
        else:
            loss = (restored - x).square().mean()
        return loss * (self.params.pixels or x[0].numel() / (self._layout.channels if self._layout else 1))

    def _similarity(self, mean: Tensor, embedded: Tensor, run: Run) -> Tensor:
        p = self.params
        loss = ops.t_similarity(
            mean,
            embedded,
            dof_z=p.dof_latent or 2.0 * p.latent_dim,
            dof_e=p.dof_embed,
            normalization=p.normalization,
            include_diagonal=p.include_diagonal,
            detach_target=p.detach_target,
            gather=run.gather if run.world_size > 1 else None,
        )
        return run.over_ranks(loss) / (len(mean) * run.world_size if p.normalization == "rows" else 1)

    def _discrimination(self, discriminator, restored: Tensor, x: Tensor, run: Run) -> Tensor:
        """Mean of the verdicts on reconstructions, wanted 0, and rows, wanted 1, plus noise."""
        noise = run.per_row(lambda g, n: torch.rand(2, n, 1, generator=g, device=x.device), 1) * self.params.label_noise
        return 0.5 * (_verdict(discriminator(restored)[0], noise[0]) + _verdict(discriminator(x)[0], 1 + noise[1]))

    def _cluster(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.embed)
        self.centers.copy_(first_clusters(codes, self.n_clusters, run, initializer=p.clusterer, n_init=p.n_init)[0])


def _verdict(logits: Tensor, wanted: Tensor | float) -> Tensor:
    """Binary cross-entropy of the discriminator's logits (B, 1); targets may lie a little above 1."""
    wanted = wanted if isinstance(wanted, Tensor) else torch.full_like(logits, wanted)
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype))
