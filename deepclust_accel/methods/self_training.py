"""Self-training: codes are pulled towards sharpened versions of their own soft assignments (DEC and its descendants)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from deepclust_accel.data.room import pieces, room
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import ReconstructionMethod, ReconstructionParams
from deepclust_accel.methods.base import DataSpec, Every, Group, Pass, Stage, Train, param
from deepclust_accel.methods.initialization import first_clusters, initializer_param
from deepclust_accel.nn.centers import StudentCenters

__all__ = ["SelfTrained", "SelfTrainingParams", "Targets", "divergence", "sharpen"]


@dataclass
class SelfTrainingParams(ReconstructionParams):
    """Settings of self-training."""

    initializer: str = initializer_param()
    n_init: int = param(20, "restarts of the initializer, where it has such", low=1)
    batch_size: int = param(256, "rows per step of clustering", unit="rows", low=1)
    epochs: int = param(100, "most epochs of clustering", unit="epochs", low=0)
    optimizer: Literal["adam", "sgd"] = param("adam", "of clustering")
    learning_rate: float = param(1e-3, "of clustering", above=0)
    momentum: float = param(0.9, "of sgd", low=0, high=1)
    update_every_steps: int | None = param(
        None, "steps between two refreshes of the targets; none: once an epoch", unit="steps", low=1
    )
    stop_changed_fraction: float = param(
        0.001,
        "clustering ends with the epoch in which a refresh moves a smaller share of rows to another cluster",
        low=0,
    )
    dof: float = param(1.0, "degrees of freedom of the Student-t kernel", above=0)


def sharpen(q: Tensor, frequency: Tensor, power: float = 2.0, balance: float = 1.0) -> Tensor:
    """Target distribution p_ik ∝ q_ik^power / f_k^balance, rows sum to 1; 2 and 1 in Xie et al. 2016, eq. 3.

    Args:
        q: (B, K) assignment. frequency: (K,) column sums of q over all rows.
    """
    frequency = frequency.clamp_min(torch.finfo(q.dtype).tiny)  # of a cluster that no row has a share of
    return torch.softmax(power * q.log() - balance * frequency.log(), 1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of KL(p_i ‖ q_i) (Xie et al. 2016, eq. 2); (B, K) each, no gradient to p."""
    p = p.detach()
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(1).mean()


class Targets(nn.Module):
    """Targets and labels of all rows between two refreshes: O(N·K) numbers, which a finished model no longer holds.

    Attributes:
        rows (N, K), labels (N,): empty before the first refresh.
        changed (): share of rows whose label the last refresh changed; 1 at the first.
    """

    def __init__(self, n_clusters: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, n_clusters))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("changed", torch.ones(()))

    def refresh(self, q: Tensor, run: Run, power: float = 2.0, balance: float = 1.0) -> None:
        """Take targets and labels from the assignment (n, K) of this rank's rows; powers as in :func:`sharpen`.

        ``q`` is overwritten.
        """
        frequency, labels = run.sum_ranks(q.sum(0)), room((len(q),), torch.int64, q.device)
        for rows in pieces(q):
            labels[rows] = q[rows].argmax(1)
            q[rows] = sharpen(q[rows], frequency, power, balance)
        p, labels = _of_all_rows(q, run), _of_all_rows(labels, run)
        if len(self.labels):
            changed = sum(torch.count_nonzero(labels[rows] != self.labels[rows]) for rows in pieces(labels))
            self.changed = (changed / len(labels)).to(self.changed.dtype)
        self.rows, self.labels = p, labels

    def settled(self, fraction: float) -> bool:
        """Whether the last refresh changed the labels of less than this share of rows."""
        return float(self.changed) < fraction

    def forget(self) -> None:
        """Drop everything."""
        self.rows, self.labels = (values.new_zeros(0, *values.shape[1:]) for values in (self.rows, self.labels))
        self.changed = torch.ones_like(self.changed)

    def _load_from_state_dict(self, state, prefix, *rest) -> None:
        for name in ("rows", "labels"):  # however many rows there are
            if f"{prefix}{name}" in state:
                now = getattr(self, name)
                setattr(self, name, room(state[f"{prefix}{name}"].shape, now.dtype, now.device))
        super()._load_from_state_dict(state, prefix, *rest)


def _of_all_rows(values: Tensor, run: Run) -> Tensor:
    """Values of the rows of every rank, in row order, on every rank."""
    if run.world_size == 1:
        return values
    full = room((run.rows, *values.shape[1:]), values.dtype, values.device).zero_()
    full[run.row_numbers()] = values
    for rows in pieces(full):
        full[rows] = run.sum_ranks(full[rows])
    return full


class SelfTrained(ReconstructionMethod):
    """A method with Student-t ``centers`` that is trained against its own sharpened assignments.

    Subclasses give ``_refine``, the step of clustering, and ``_clustered``, the parts it trains beside the centers.
    """

    _clustered: tuple[str, ...] = ("encoder",)

    def __init__(self, params: SelfTrainingParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.centers = StudentCenters(n_clusters, params.latent_dim, params.dof)
        self.targets = Targets(n_clusters)

    def plan(self) -> list[Stage]:
        """Pretraining, first clusters, self-training."""
        p = self.params
        options = {"momentum": p.momentum} if p.optimizer == "sgd" else {}
        group = Group((*self._clustered, "centers"), p.learning_rate, p.optimizer, options)
        every = None if p.update_every_steps is None else Every(p.update_every_steps, self._refresh)
        return [
            *self.pretraining(),
            Pass("init-centers", self._init_centers),
            Train(
                "cluster",
                self._refine,
                {"main": group},
                p.epochs,
                p.batch_size,
                before_epoch=self._refresh if every is None else None,
                every=every,
                stop=lambda run: self.targets.settled(p.stop_changed_fraction),
            ),
            Pass("forget-targets", lambda run: self.targets.forget()),
        ]

    def assign(self, z: Tensor) -> Tensor:
        """Student-t probability of each center."""
        return self.centers(z)

    def cluster_centers(self) -> Tensor:
        """(K, Z)."""
        return self.centers.positions

    def _init_centers(self, run: Run) -> None:
        p = self.params
        found = first_clusters(
            run.collect(self.embed), self.n_clusters, run, initializer=p.initializer, n_init=p.n_init
        )
        self.centers.positions.copy_(found[0])

    def _refresh(self, run: Run) -> None:
        self.targets.refresh(run.collect(lambda x: self.assign(self.embed(x))), run)
        run.log(changed=self.targets.changed)

    @abstractmethod
    def _refine(self, nets, batch, run: Run) -> Tensor: ...
