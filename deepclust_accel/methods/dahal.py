"""dahal: an autoencoder and an embedding of its code that keeps the code's neighbourhoods; what DCFAE descends from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from deepclust_accel import ops
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.ae_kmeans import nearest_one_hot
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams, choose_decoder, deviation
from deepclust_accel.methods.base import DataSpec, Group, MethodInfo, Pass, Stage, Train, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.mlp import Mlp

__all__ = ["Dahal", "DahalParams"]


@dataclass
class DahalParams(AutoencoderParams):
    """Settings of dahal."""

    decoder: Literal["auto", "gaussian", "bernoulli"] = param(
        "auto", "likelihood of a value given its code; auto: bernoulli where all values lie in [0, 1]"
    )
    embedding_hidden: tuple[int, ...] = param(
        (2000, 500, 500, 500), "hidden layers of the embedding network", unit="units", low=1
    )
    embed_dim: int = param(10, "width of the embedding that is clustered", unit="units", low=1)
    code_scale: float | None = param(
        None, "codes are rescaled to this mean standard deviation after pretraining; none leaves them", above=0
    )
    batch_size: int = param(100, "rows per step; the similarity loss is over all pairs of them", unit="rows", low=2)
    epochs: int = param(50, "epochs of joint training; the author has 50 to 200", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate", above=0)
    similarity_weight: float = param(0.01, "w, share of the similarity loss's gradient that reaches the encoder", low=0)
    dof_latent: float | None = param(None, "degrees of freedom in the code; none: twice its width", above=0)
    dof_embed: float = param(1.0, "degrees of freedom in the embedding", above=0)
    normalization: Literal["rows", "global"] = param("rows", "similarities sum to 1 over each row's pairs, or over all")
    include_diagonal: bool = param(False, "pairs of a row with itself take part")
    detach_target: bool = param(False, "the code gets no gradient through its own similarities")
    clusterer: str = initializer_param("the clusters of the embedding")
    n_init: int = param(20, "restarts of the clusterer, where it has such", low=1)


class Dahal(AutoencoderMethod):
    """Autoencoder + embedding network; the cross-entropy between Student-t similarities of code and embedding.

    Paper: Dahal, IEEE BigData 2018. The embedding learns from the similarity loss, the decoder from reconstruction, the
    encoder from reconstruction and w times the similarity loss. Differs: pretraining is ours. The kernel has a unit of
    length, and the scale of the code decides how many neighbours a row has; ``code_scale`` can set it. Cost of
    an epoch: O(N·weights) + O(N·batch·(Z + E)). Assumes that neighbours in the code are of one class. Known failure: the
    embedding starts as the identity behind ReLU, which drops what is negative in the code.

    Defaults that the paper does not give were chosen while looking at the accuracy of a few seeds on digits.
    """

    info = MethodInfo("dahal", "Dahal, IEEE BigData 2018", "autoencoder, embedding by t-similarity")
    Params = DahalParams

    def __init__(self, params: DahalParams, n_clusters: int, data: DataSpec):
        super().__init__(choose_decoder(params, data), n_clusters, data)
        self.embedding = Mlp(params.latent_dim, *params.embedding_hidden, params.embed_dim)
        for layer in self.embedding.layers:
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("centers", torch.zeros(n_clusters, params.embed_dim))

    def plan(self) -> list[Stage]:
        """Pretraining, joint training, k-means on the embedding."""
        p = self.params
        group = {"main": Group(("encoder", "decoder", "embedding"), p.learning_rate)}
        return [
            *self.pretraining(),
            *([] if p.code_scale is None else [Pass("scale-code", self._scale_code)]),
            Train("joint", self._joint, group, p.epochs, p.batch_size, needs_equal_shards=True),
            Pass("k-means", self._cluster),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, E)."""
        return self.embedding(self.encoder(x))

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the nearest center."""
        return nearest_one_hot(z, self.centers)

    def cluster_centers(self) -> Tensor:
        """(K, E) means of the embeddings."""
        return self.centers

    def _scale_code(self, run: Run) -> None:
        self._rescale(deviation(run.collect(self.encoder), run).mean() / self.params.code_scale)

    def _joint(self, nets, batch, run: Run) -> Tensor:
        p, z = self.params, nets.encoder(batch.x)
        reconstruction = self._negative_log_likelihood(nets.decoder(z), batch.x)
        scaled = p.similarity_weight * z + (1 - p.similarity_weight) * z.detach()  # z, with w times its gradient
        similarity = ops.t_similarity(
            scaled,
            nets.embedding(scaled),
            dof_z=p.dof_latent or 2.0 * p.latent_dim,
            dof_e=p.dof_embed,
            normalization=p.normalization,
            include_diagonal=p.include_diagonal,
            detach_target=p.detach_target,
            gather=run.gather if run.world_size > 1 else None,
        )
        similarity = run.over_ranks(similarity) / (
            len(z) * run.world_size
        )  # reconstruction, a sum over rows in the author's code, is a mean here as well
        run.log(reconstruction=reconstruction, similarity=similarity)
        return reconstruction + similarity

    def _cluster(self, run: Run) -> None:
        p, codes = self.params, run.collect(self.embed)
        self.centers.copy_(first_clusters(codes, self.n_clusters, run, initializer=p.clusterer, n_init=p.n_init)[0])
