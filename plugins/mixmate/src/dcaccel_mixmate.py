"""mixmate: a mixture of K sparse autoencoders, each an unrolled sparse coder with a dictionary of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepclust_accel.methods.base import (
    Batch,
    DataSpec,
    Group,
    Method,
    MethodInfo,
    Params,
    Pass,
    Run,
    Stage,
    Train,
    Update,
    param,
)
from deepclust_accel.methods.initialization import first_clusters, initializer_param

__all__ = ["Dictionaries", "Mixmate", "MixmateParams", "mixture_loss"]


@dataclass
class MixmateParams(Params):
    """Settings of mixmate."""

    atoms: int = param(50, "atoms of a dictionary", low=1)
    iterations: int = param(15, "unrolled iterations of the sparse coder", low=1)
    step_size: float = param(0.04, "of an iteration; below 1 / the largest eigenvalue of WᵀW", above=0)
    sparsity: float = param(0.75, "λ, weight of the absolute values of a code", low=0)
    prior_weight: float = param(0.0, "β, weight of KL(shares || softmax of the offsets b)", low=0)
    train_prior: bool = param(False, "train the offsets b, which are 0 otherwise")
    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    initial_rows: int = param(2000, "rows that the initializer sees, from which atoms are drawn", unit="rows", low=1)
    batch_size: int = param(256, "rows per step", unit="rows", low=1)
    epochs: int = param(50, "epochs of training", unit="epochs", low=0)
    learning_rate: float = param(1e-3, "Adam's rate", above=0)


class Dictionaries(nn.Module):
    """K dictionaries with tied encoders: codes by T steps of FISTA, reconstructions by the same atoms.

    Attributes:
        atoms (K, D, m): parameter, columns of length 1.
        offsets (K,): parameter b, log-weights of the mixture but for a constant.
    """

    def __init__(self, n_clusters: int, features: int, params: MixmateParams):
        super().__init__()
        self.atoms = nn.Parameter(F.normalize(torch.randn(n_clusters, features, params.atoms), dim=1))
        self.offsets = nn.Parameter(torch.zeros(n_clusters), requires_grad=params.train_prior)
        self.steps, self.step_size, self.sparsity = params.iterations, params.step_size, params.sparsity

    def codes(self, y: Tensor) -> Tensor:
        """Rows (B, D) → (K, m, B), T steps towards argmin_x |W_k x - y|² / 2 + λ |x|₁."""
        y = y.T
        point = before = y.new_zeros(len(self.atoms), self.atoms.shape[2], y.shape[1])
        momentum = 1.0
        for _ in range(self.steps):
            gradient = self.atoms.mT @ (self.atoms @ point - y)
            code = F.softshrink(point - self.step_size * gradient, self.step_size * self.sparsity)
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            point, before, momentum = code + (momentum - 1) / faster * (code - before), code, faster
        return before

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, D) → energies (B, K), E_ik = |y_i - W_k x_ik|² + λ |x_ik|₁, log r (B, K) and log softmax b (K,)."""
        x = self.codes(y)
        energies = ((self.atoms @ x - y.T).square().sum(1) + self.sparsity * x.abs().sum(1)).T
        return energies, self.log_shares(energies), self.offsets.log_softmax(0)

    def log_shares(self, energies: Tensor) -> Tensor:
        """Energies (B, K) → log r (B, K), r = softmax(b - E)."""
        return torch.log_softmax(self.offsets - energies, 1)

    @torch.no_grad()
    def normalize(self) -> None:
        """Give every atom length 1 again."""
        self.atoms.copy_(F.normalize(self.atoms, dim=1))


def mixture_loss(energies: Tensor, log_shares: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
    """Means over rows of Σ_k r_k E_k and of KL(r || softmax b)."""
    r = log_shares.exp()
    return (r * energies).sum(1).mean(), (r * (log_shares - log_prior)).sum(1).mean()


class Mixmate(Method):
    """[Σ_k r_k E_k + β KL(r || softmax b)] / D, r = softmax(b - E), E_k = |y - W_k x_k|² + λ |x_k|₁, x_k by FISTA.

    Paper: Lin, Song & Ba (mixture model auto-encoders), ICASSP 2022; its settings for MNIST (for USPS it has 30 atoms and
    λ = 0.25). Differs: first clusters are those of an initializer on the rows themselves, where the authors cluster a
    scattering transform by sparse subspaces. The code (``embed``) is the energy of each cluster. Cost of an epoch:
    O(N·K·D·atoms·iterations). Assumes rows that are sparse in a dictionary of their class, values about [0, 1]. Known
    failure: a step too large for the atoms' correlations diverges; a poor start stays.
    """

    info = MethodInfo(
        "mixmate",
        "Lin et al., ICASSP 2022",
        "a sparse autoencoder for each cluster",
        distributed=False,
    )
    Params = MixmateParams

    def __init__(self, params: MixmateParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.dictionaries = Dictionaries(n_clusters, self.features, params)

    def plan(self) -> list[Stage]:
        """Dictionaries of first clusters, then training."""
        p = self.params
        group = {"main": Group(("dictionaries",), p.learning_rate)}
        return [Pass("init-atoms", self._init_atoms), Train("train", self._step, group, p.epochs, p.batch_size)]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, K) energies."""
        return self.dictionaries(x.flatten(1))[0]

    def assign(self, z: Tensor) -> Tensor:
        """Shares r."""
        return self.dictionaries.log_shares(z).exp()

    def _init_atoms(self, run: Run) -> None:
        p, k = self.params, self.n_clusters
        kept = torch.zeros(run.rows, dtype=torch.bool)
        kept[torch.randperm(run.rows, generator=run.shared_generator)[: max(p.initial_rows, k)]] = True
        rows = torch.cat([batch.x.flatten(1)[kept.to(batch.x.device)[batch.index]] for batch in run.batches()])
        labels = first_clusters(rows, k, run, initializer=p.initializer, n_init=p.n_init)[1]
        for cluster in range(k):
            members = rows[labels == cluster]
            drawn = torch.randperm(len(members), generator=run.shared_generator)[: p.atoms].to(rows.device)
            atoms = F.normalize(members[drawn] - members[drawn].mean(1, keepdim=True), dim=1)
            self.dictionaries.atoms[cluster, :, : len(atoms)] = atoms.T  # where members are few, the rest stay random

    def _step(self, nets, batch: Batch, run: Run) -> Iterator[Update]:
        energy, divergence = mixture_loss(*nets.dictionaries(batch.x.flatten(1)))
        loss = (energy + self.params.prior_weight * divergence) / self.features
        yield Update(loss, logs={"energy": energy, "divergence": divergence})
        self.dictionaries.normalize()  # the optimizer has made its step
