"""k-means on the raw rows and on their principal components, by scikit-learn: the cheapest baselines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.ae_kmeans import nearest_one_hot
from deepclust_accel.methods.base import DataSpec, Method, MethodInfo, Params, Pass, Stage, param
from deepclust_accel.methods.initialization import draw_seed

__all__ = ["KMeans", "KMeansParams", "PcaKMeans", "PcaKMeansParams"]


@dataclass
class KMeansParams(Params):
    """Settings of k-means."""

    n_init: int = param(20, "restarts; the one of lowest inertia is kept", low=1)
    iterations: int = param(300, "most Lloyd iterations of a restart", low=1)


class KMeans(Method):
    """Lloyd's k-means with k-means++ seeding on the rows as they are (scikit-learn's KMeans).

    Paper: MacQueen 1967; Arthur & Vassilvitskii 2007. Cost: O(N·K·D) an iteration; all rows in memory as float32. Assumes
    round clusters of similar size. Known failure: distances in raw pixels or word counts say little about classes.
    """

    info = MethodInfo("kmeans", "Arthur & Vassilvitskii, SODA 2007", "k-means on the rows", distributed=False)
    Params = KMeansParams

    def __init__(self, params: KMeansParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.register_buffer("centers", torch.zeros(n_clusters, self._width()))

    def _width(self) -> int:
        return self.features

    def plan(self) -> list[Stage]:
        """One pass."""
        return [Pass("k-means", self._cluster)]

    def embed(self, x: Tensor) -> Tensor:
        """The row itself, flattened."""
        return x.flatten(1)

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the nearest center."""
        return nearest_one_hot(z, self.centers)

    def cluster_centers(self) -> Tensor:
        """(K, Z) means."""
        return self.centers

    def _cluster(self, run: Run) -> None:
        from sklearn.cluster import KMeans as SklearnKMeans

        rows = run.collect(self.embed).cpu().numpy()
        model = SklearnKMeans(
            self.n_clusters, n_init=self.params.n_init, max_iter=self.params.iterations, random_state=draw_seed(run)
        ).fit(rows)
        self.centers.copy_(torch.from_numpy(model.cluster_centers_))


@dataclass
class PcaKMeansParams(KMeansParams):
    """Settings of pca-kmeans."""

    components: int = param(10, "principal components kept (at most min(N, D))", low=1)
    whiten: bool = param(False, "scale each component to unit variance")


class PcaKMeans(KMeans):
    """Principal components, then k-means on them (scikit-learn's PCA and KMeans).

    Paper: Ding & He, ICML 2004. Cost: that of a truncated SVD of the N × D rows, then O(N·K·components) an iteration; all
    rows in memory. Assumes that the directions of large variance separate the classes.
    """

    info = MethodInfo("pca-kmeans", "Ding & He, ICML 2004", "k-means on principal components", distributed=False)
    Params = PcaKMeansParams

    def __init__(self, params: PcaKMeansParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.register_buffer("mean", torch.zeros(self.features))
        self.register_buffer("components", torch.zeros(self._width(), self.features))

    def _width(self) -> int:
        return min(self.params.components, self.features, self.data.rows or self.features)

    def plan(self) -> list[Stage]:
        """PCA, then k-means."""
        return [Pass("pca", self._reduce), Pass("k-means", self._cluster)]

    def embed(self, x: Tensor) -> Tensor:
        """(B, *shape) → (B, components)."""
        return (x.flatten(1) - self.mean) @ self.components.T

    def _reduce(self, run: Run) -> None:
        from sklearn.decomposition import PCA

        rows = run.collect(lambda x: x.flatten(1)).cpu().numpy()
        model = PCA(self._width(), random_state=draw_seed(run)).fit(rows)
        self.mean.copy_(torch.from_numpy(model.mean_))
        components = torch.from_numpy(model.components_)
        if self.params.whiten:
            components = components / torch.from_numpy(model.explained_variance_).clamp_min(1e-12).sqrt()[:, None]
        self.components.copy_(components)
