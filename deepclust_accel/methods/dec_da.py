"""dec-da and idec-da: self-training on distorted images against targets from clean ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deepclust_accel.engine.run import Run
from deepclust_accel.methods.base import DataSpec, MethodInfo, param
from deepclust_accel.methods.dec import Dec, DecParams
from deepclust_accel.methods.idec import Idec, IdecParams
from deepclust_accel.methods.images import AugmentationParams, augmented, require_images

__all__ = ["DecDa", "DecDaParams", "IdecDa", "IdecDaParams"]


@dataclass
class DecDaParams(DecParams, AugmentationParams):
    """Settings of dec-da."""

    pretrain_epochs: int = param(500, "epochs of pretraining end to end, on distorted images", unit="epochs", low=0)


@dataclass
class IdecDaParams(IdecParams, AugmentationParams):
    """Settings of idec-da."""

    pretrain_epochs: int = param(500, "epochs of pretraining end to end, on distorted images", unit="epochs", low=0)


class _Augmented:
    """Distorts what the networks see in every training step; refreshes of the targets see the rows as they are."""

    def __init__(self, params: AugmentationParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        self._layout = require_images(params, data, self.info.name)

    def _inputs(self, x: Tensor, run: Run) -> Tensor:
        return augmented(self.params, self._layout, x, run)


class DecDa(_Augmented, Dec):
    """DEC on augmented images: KL(P(x) ‖ Q(distorted x)), pretraining on distorted images as well.

    Paper: Guo et al., ACML 2018 (the fully connected variant). Differs: as dec; distortions are bilinear, on the device.
    Rows are images by the data set's entry, by having 2 or 3 axes, or by ``image_shape``. Cost: as dec, and one resampling
    of each batch. Assumes that a distorted image is of the same class (not so where a rotated 6 is a 9). Known failure: as
    dec; and distorted images take more pretraining, which cut short leaves worse first clusters than clean ones do.
    """

    info = MethodInfo("dec-da", "Guo et al., ACML 2018", "dec with augmented images")
    Params = DecDaParams


class IdecDa(_Augmented, Idec):
    """IDEC on augmented images: MSE of distorted images + γ KL(P(x) ‖ Q(distorted x)), pretraining on those as well.

    Paper: Guo et al., ACML 2018 (the fully connected variant). Differs, costs, assumes and fails: as dec-da beside idec.
    """

    info = MethodInfo("idec-da", "Guo et al., ACML 2018", "idec with augmented images")
    Params = IdecDaParams
