"""tiny: an autoencoder whose codes are pulled towards centers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepclust_accel.cluster.kmeans import kmeans
from deepclust_accel.methods.base import Batch, DataSpec, Group, Method, MethodInfo, Params, Pass, Run, Train, param
from deepclust_accel.nn.mlp import Mlp


@dataclass
class TinyParams(Params):
    """Settings of tiny."""

    latent_dim: int = param(4, "width of the code", unit="units", low=1)
    epochs: int = param(20, "epochs of pretraining, and again of joint training", unit="epochs", low=1)
    learning_rate: float = param(1e-3, "Adam's rate", above=0)
    pull: float = param(0.1, "weight of the distance to the nearest center", low=0)


class Tiny(Method):
    """|x - x̂|² + pull · min_k |z - c_k|², the centers c from k-means before every epoch.

    Paper: none yet. Cost of an epoch: O(N·(weights + K·Z)), and k-means on the codes. Assumes round clusters in the code.
    Known failure: a pull that is too strong collapses the code.
    """

    info = MethodInfo("tiny", "nobody, nowhere", "autoencoder with a pull towards centers")
    Params = TinyParams

    def __init__(self, params: TinyParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.encoder = Mlp(self.features, 32, params.latent_dim)
        self.decoder = Mlp(params.latent_dim, 32, self.features)
        self.register_buffer("centers", torch.zeros(n_clusters, params.latent_dim))

    def plan(self):
        """What happens, in order: two trainings and a last look at all rows."""
        p = self.params
        group = {"main": Group(("encoder", "decoder"), p.learning_rate)}
        return [
            Train("pretrain", self.reconstruct, group, p.epochs, batch_size=64),
            Train("joint", self.refine, group, p.epochs, batch_size=64, before_epoch=self.update_centers),
            Pass("centers", self.update_centers),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, Z), the code."""
        return self.encoder(x)

    def assign(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, K), one-hot of the nearest center."""
        return nn.functional.one_hot(torch.cdist(z, self.centers).argmin(1), self.n_clusters).to(z.dtype)

    def cluster_centers(self) -> Tensor:
        """(K, Z)."""
        return self.centers

    def reconstruct(self, nets, batch: Batch, run: Run) -> Tensor:
        """A step of pretraining: the mean loss over the rows of the batch."""
        return (nets.decoder(nets.encoder(batch.x)) - batch.x.flatten(1)).square().mean()

    def refine(self, nets, batch: Batch, run: Run) -> Tensor:
        """A step of joint training."""
        z = nets.encoder(batch.x)
        pull = distance_to_nearest(z, self.centers)
        run.log(pull=pull)
        return (nets.decoder(z) - batch.x.flatten(1)).square().mean() + self.params.pull * pull

    def update_centers(self, run: Run) -> None:
        """k-means on the codes of all rows."""
        codes, rows = run.collect(self.embed), run.row_numbers()
        generator, add = run.shared_generator, run.sum_ranks
        found = kmeans(codes, self.n_clusters, generator=generator, n_init=5, sum_ranks=add, index=rows)
        self.centers.copy_(found.centers)


def distance_to_nearest(z: Tensor, centers: Tensor) -> Tensor:
    """Mean over rows z (B, Z) of the squared distance to the nearest of the centers (K, Z)."""
    return (z[:, None] - centers).square().sum(-1).amin(1).mean()
