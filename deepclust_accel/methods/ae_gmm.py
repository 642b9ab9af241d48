"""ae-gmm: an autoencoder, then a Gaussian mixture on its codes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.autoencoder import AutoencoderMethod, AutoencoderParams
from deepclust_accel.methods.base import DataSpec, MethodInfo, Pass, Stage
from deepclust_accel.methods.gmm import Density, MixtureParams
from deepclust_accel.methods.initialization import draw_seed

__all__ = ["AeGmm", "AeGmmParams"]


@dataclass
class AeGmmParams(MixtureParams, AutoencoderParams):
    """Settings of ae-gmm."""


class AeGmm(AutoencoderMethod):
    """Autoencoder pretraining, then EM on the codes (scikit-learn's GaussianMixture).

    Paper: the "AE + GMM" row of Jiang et al. (VaDE), IJCAI 2017. Cost: as ae-kmeans, with O(N·K·Z²) an EM iteration.
    Assumes Gaussian classes in the code. Known failure: as ae-kmeans.
    """

    info = MethodInfo(
        "ae-gmm",
        "Jiang et al., IJCAI 2017 (baseline)",
        "Gaussian mixture on the codes of an autoencoder",
        distributed=False,
    )
    Params = AeGmmParams

    def __init__(self, params: AeGmmParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self.density = Density(n_clusters, params.latent_dim, params.covariance)

    def plan(self) -> list[Stage]:
        """Pretraining, then one pass of EM."""
        return [*self.pretraining(), Pass("mixture", self._cluster)]

    def assign(self, z: Tensor) -> Tensor:
        """Responsibilities."""
        return self.density.posterior(z)

    def cluster_centers(self) -> Tensor:
        """(K, Z) means of the codes."""
        return self.density.means

    def _cluster(self, run: Run) -> None:
        self.density.fit(run.collect(self.embed).cpu().numpy(), self.params, draw_seed(run))
