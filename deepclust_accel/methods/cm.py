"""cm: the clustering module alone, a k-means and Gaussian mixture trained by gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from deepclust_accel.cluster.kmeans import kmeans
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.autoencoder import mean_square
from deepclust_accel.methods.base import DataSpec, Group, Method, MethodInfo, Params, Pass, Stage, Train, Update, param
from deepclust_accel.nn.clustering_module import ClusteringModule, dirichlet_loss, module_losses

__all__ = ["Cm", "CmParams", "ModuleParams", "averaging_step", "check_alpha", "start_module"]


@dataclass
class ModuleParams(Params):
    """Settings of the clustering module, shared by cm and ae-cm."""

    initialization: Literal["random", "pretrained"] = param(
        "pretrained", "random: train everything from its random start; pretrained: start at k-means centers"
    )
    encoder_start: Literal["pseudoinverse", "posterior"] = param(
        "posterior",
        "W at k-means centers U: pinv(U), as the authors have it, or that of the Gaussian mixture with these means and the "
        "variance within clusters",
    )
    reduction: Literal["sum", "normalized"] = param(
        "sum", "losses are sums over the batch, as printed, or are divided by its rows and values (normalized)"
    )
    alpha: tuple[float, ...] = param(
        (12.0,), "of the Dirichlet prior of the cluster shares, one value or K: above 1 asks for balance", above=0
    )
    bias: bool = param(True, "offsets in the clustering module; the authors' normalized example has none")
    batch_size: int = param(256, "rows per step", unit="rows", low=1)
    learning_rate: float = param(1e-3, "Adam's rate", above=0)
    adam_eps: float = param(1e-3, "Adam's eps", above=0)
    average_last_epoch: bool = param(True, "one more epoch, which ends with the mean of the weights after its steps")


@dataclass
class CmParams(ModuleParams):
    """Settings of cm."""

    encoder_start: Literal["pseudoinverse", "posterior"] = param(
        "pseudoinverse",
        "W at the first centers U: pinv(U), as the authors have it, or that of a Gaussian mixture there",
    )
    alpha: tuple[float, ...] = param(
        (40.0,), "of the Dirichlet prior of the cluster shares, one value or K: above 1 asks for balance", above=0
    )
    epochs: int = param(150, "epochs of training", unit="epochs", low=0)


def check_alpha(params: ModuleParams, n_clusters: int) -> Tensor:
    """(1,) or (K,) α; ArgumentError for another number of values."""
    if len(params.alpha) not in (1, n_clusters):
        raise ArgumentError(
            f"alpha: expected one value or one for each of {n_clusters} clusters, got {len(params.alpha)}"
        )
    return torch.tensor(params.alpha)


def start_module(
    module: ClusteringModule, z: Tensor, centers: Tensor, labels: Tensor, params: ModuleParams, run: Run
) -> None:
    """Put the module at clusters of z (n, q): centers (K, q) and labels (n,)."""
    within = mean_square(z, lambda rows: centers[labels[rows]], run).mean().clamp_min(1e-6)
    module.set_means(centers, within if params.encoder_start == "posterior" else None)


def averaging_step(step: Callable, parts: dict[str, nn.Module]) -> Callable:
    """A step for one epoch that does what ``step`` does and leaves the mean of the weights after each of its steps."""
    parameters, means = [p for part in parts.values() for p in part.parameters()], []

    def averaging(nets, batch, run: Run) -> Iterator[Update]:
        yield Update(step(nets, batch, run))
        with torch.no_grad():
            if run.step == 0:
                means[:] = [p.clone() for p in parameters]
            for mean, parameter in zip(means, parameters, strict=True):
                mean.lerp_(parameter, 1 / (run.step + 1))
                if run.step + 1 == run.steps_per_epoch:
                    parameter.copy_(mean)

    return averaging


class Cm(Method):
    """An autoencoder of one hidden layer, x̄ = Γ U with Γ = softmax(W x + w₀), on the rows as they are.

    Paper: Boubekki et al., Machine Learning 110, 2021: its loss E1 + E2 + E3 is Σ γ_ik |x_i - μ_k|², that of soft k-means
    and of an isotropic Gaussian mixture, and E4 a Dirichlet prior of the shares. The
    authors tuned α with the batch size on each data set (10 to 1000); the default is theirs for USPS.
    Cost of an epoch: O(N·K·(D + K)). Assumes round clusters in the rows; known failure: as k-means on raw values.

    Defaults that the paper does not give were chosen while looking at the accuracy of a few seeds on digits.
    """

    info = MethodInfo(
        "cm",
        "Boubekki et al., Machine Learning 2021",
        "clustering module, k-means as an autoencoder",
        distributed=False,
    )
    Params = CmParams

    def __init__(self, params: CmParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.module = ClusteringModule(self.features, n_clusters, params.bias)
        self.register_buffer("alpha", check_alpha(params, n_clusters), persistent=False)

    def plan(self) -> list[Stage]:
        """Centers of one k-means iteration, training, averaging."""
        p = self.params
        group = {"main": Group(("module",), p.learning_rate, options={"eps": p.adam_eps})}
        init = [Pass("init-module", self._init_module)] if p.initialization == "pretrained" else []
        average = Train("average", averaging_step(self._step, self.parts()), group, 1, p.batch_size)
        return [
            *init,
            Train("cluster", self._step, group, p.epochs, p.batch_size),
            *([average] if p.average_last_epoch else []),
        ]

    def embed(self, x: Tensor) -> Tensor:
        """The row itself, flattened."""
        return x.flatten(1)

    def assign(self, z: Tensor) -> Tensor:
        """γ."""
        return self.module.assign(z)

    def cluster_centers(self) -> Tensor:
        """(K, D) means."""
        return self.module.means()

    def _init_module(self, run: Run) -> None:
        rows = run.collect(self.embed)
        found = kmeans(
            rows,
            self.n_clusters,
            generator=run.shared_generator,
            n_init=1,
            iterations=1,
            sum_ranks=run.sum_ranks,
            index=run.row_numbers(),
        )
        start_module(self.module, rows, found.centers, found.labels.to(rows.device), self.params, run)

    def _step(self, nets, batch, run: Run) -> Tensor:
        x = batch.x.flatten(1)
        gamma, means = nets.module(x)
        size = x.numel() if self.params.reduction == "normalized" else 1
        terms = [term / size for term in module_losses(x, gamma, means)]
        prior = dirichlet_loss(gamma, self.alpha)
        run.log(reconstruction=terms[0], sparsity=terms[1], merging=terms[2], prior=prior)
        return sum(terms) + prior
