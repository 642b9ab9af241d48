"""Gaussian mixtures by scikit-learn's EM, on the raw rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from deepclust_accel.engine.run import Run
from deepclust_accel.errors import TrainingError
from deepclust_accel.methods.base import DataSpec, Method, MethodInfo, Params, Pass, Stage, param
from deepclust_accel.methods.initialization import draw_seed

__all__ = ["Density", "Gmm", "GmmParams", "MixtureParams"]


@dataclass
class MixtureParams(Params):
    """Settings of EM, shared by gmm and ae-gmm."""

    covariance: Literal["full", "tied", "diag"] = param(
        "full", "of the components: full, one full covariance for all of them (tied), or diagonal"
    )
    mixture_n_init: int = param(1, "restarts of EM; the one of highest likelihood is kept", low=1)
    mixture_iterations: int = param(100, "most EM iterations of a restart", low=1)
    variance_floor: float = param(1e-6, "added to the diagonal of every covariance", low=0)


@dataclass
class GmmParams(MixtureParams):
    """Settings of gmm."""


class Density(nn.Module):
    """A fitted Gaussian mixture as buffers, with its posterior in torch.

    Attributes:
        log_weights (K,), means (K, Z), whitening (K, Z, Z) for full, (Z, Z) for tied or (K, Z) for diagonal covariances:
        the factor P with P Pᵀ = Σ⁻¹.
    """

    def __init__(self, n_clusters: int, width: int, covariance: str):
        super().__init__()
        shape = {"full": (n_clusters, width, width), "tied": (width, width), "diag": (n_clusters, width)}[covariance]
        self._diagonal = covariance == "diag"
        self.register_buffer("log_weights", torch.zeros(n_clusters))
        self.register_buffer("means", torch.zeros(n_clusters, width))
        self.register_buffer("whitening", torch.zeros(shape))

    def fit(self, rows: np.ndarray, params: MixtureParams, seed: int) -> None:
        """Run EM on rows (N, Z) in float64 (a copy), because float32 covariances of images are singular in practice."""
        from sklearn.mixture import GaussianMixture

        model = GaussianMixture(
            len(self.means),
            covariance_type=params.covariance,
            n_init=params.mixture_n_init,
            max_iter=params.mixture_iterations,
            reg_covar=params.variance_floor,
            random_state=seed,
        )
        try:
            model.fit(rows.astype(np.float64))
        except ValueError as cause:
            raise TrainingError(
                f"mixture: expected covariances that can be inverted, got {str(cause).partition('. ')[0]!r}; raise "
                f"variance_floor, choose covariance=tied or diag, or fewer clusters"
            ) from cause
        self.log_weights.copy_(torch.from_numpy(np.log(model.weights_)))
        self.means.copy_(torch.from_numpy(model.means_))
        self.whitening.copy_(torch.from_numpy(model.precisions_cholesky_))

    def posterior(self, z: Tensor) -> Tensor:
        """(B, Z) → (B, K) responsibilities."""
        if self._diagonal:
            diagonal = self.whitening
            white = (z[:, None] - self.means) * self.whitening
        else:
            factors = self.whitening.expand(len(self.means), -1, -1)
            diagonal = factors.diagonal(dim1=1, dim2=2)
            white = torch.stack([(z - m) @ p for m, p in zip(self.means, factors, strict=True)], 1)
        log_likelihood = (
            diagonal.log().sum(-1) - 0.5 * white.square().sum(-1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
        )
        return torch.softmax(self.log_weights + log_likelihood, 1)


class Gmm(Method):
    """A Gaussian mixture fitted by EM to the rows as they are (scikit-learn's GaussianMixture).

    Paper: Dempster, Laird & Rubin 1977. Cost: O(N·K·D²) an iteration, O(N·K·D) with diagonal covariances; all
    rows in memory as float64. Assumes Gaussian classes. Known failure: more dimensions than rows of a class.
    """

    info = MethodInfo("gmm", "Dempster et al., JRSS-B 1977", "Gaussian mixture on the rows", distributed=False)
    Params = GmmParams

    def __init__(self, params: GmmParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.density = Density(n_clusters, self.features, params.covariance)

    def plan(self) -> list[Stage]:
        """One pass of EM."""
        return [Pass("mixture", self._cluster)]

    def embed(self, x: Tensor) -> Tensor:
        """The row itself, flattened."""
        return x.flatten(1)

    def assign(self, z: Tensor) -> Tensor:
        """Responsibilities."""
        return self.density.posterior(z)

    def cluster_centers(self) -> Tensor:
        """(K, D) means."""
        return self.density.means

    def _cluster(self, run: Run) -> None:
        self.density.fit(run.collect(self.embed).cpu().numpy(), self.params, draw_seed(run))
