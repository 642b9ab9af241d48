"""The contract between a clustering method and everything else.

A method declares its settings, builds its networks, and returns a plan: a list of stages that the engine runs. It never
sees the engine, the files or the process group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from deepclust_accel.config import Params, param
from deepclust_accel.data.source import Batch, DataSpec
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.stage import Every, Group, Pass, Stage, Train, Update
from deepclust_accel.errors import PluginError

__all__ = [
    "Batch",
    "DataSpec",
    "Every",
    "Group",
    "Method",
    "MethodInfo",
    "Params",
    "Pass",
    "Run",
    "Stage",
    "Train",
    "Update",
    "param",
]


@dataclass(frozen=True)
class MethodInfo:
    """What the listing shows.

    Args:
        name: registered name, kebab-case as in the paper.
        paper: "Authors, venue year".
        summary: one line.
        distributed: W ranks give the result of one.
    """

    name: str
    paper: str
    summary: str = ""
    distributed: bool = True


class Method(nn.Module, ABC):
    """One clustering algorithm: networks, clustering state, and a plan for fitting them.

    The whole fitted state is ``state_dict()`` (parameters and buffers); nothing else is saved. Every trainable parameter
    belongs to a named part, a child module, because parts are what optimizers and process groups are given.

    Args:
        params: an instance of ``Params``.
        n_clusters: K ≥ 1.
        data: shape of a row and number of rows.
    """

    api_version: ClassVar[int] = 1
    info: ClassVar[MethodInfo]
    Params: ClassVar[type]

    def __init__(self, params: Params, n_clusters: int, data: DataSpec):
        super().__init__()
        self.params, self.n_clusters, self.data = params, n_clusters, data

    @property
    def features(self) -> int:
        """D, the number of values in a row."""
        return prod(self.data.shape)

    @abstractmethod
    def plan(self) -> Sequence[Stage]:
        """Return the stages of fitting, in order; data, not control flow."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) float32 → (B, Z); deterministic, row by row."""

    @abstractmethod
    def assign(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, K) cluster probabilities, rows sum to 1."""

    def codes_and_shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *shape) → what :meth:`embed` and :meth:`assign` say of it, whose shapes are checked.

        Raises:
            PluginError: not (B, Z), or not (B, K).
        """
        z = self.embed(x)
        if z.ndim != 2 or len(z) != len(x):
            raise PluginError(f"{self.info.name}: embed: expected codes ({len(x)}, Z), got {tuple(z.shape)}")
        shares, wanted = self.assign(z), (len(x), self.n_clusters)
        if tuple(shares.shape) != wanted:
            raise PluginError(
                f"{self.info.name}: assign: expected a column of probabilities for each cluster, {wanted}, got "
                f"{tuple(shares.shape)}"
            )
        return z, shares

    def cluster_centers(self) -> Tensor | None:
        """(K, Z) centers in the space of :meth:`embed`, or None when the method has none."""
        return None

    def parts(self) -> dict[str, nn.Module]:
        """Return the trainable parts by name; the default is every child with trainable parameters."""
        return {n: m for n, m in self.named_children() if any(p.requires_grad for p in m.parameters())}
