"""dcec: IDEC with a convolutional autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.base import MethodInfo, param
from deepclust_accel.methods.idec import ReconstructedSelfTraining, ReconstructedSelfTrainingParams
from deepclust_accel.methods.images import ImageParams, require_images
from deepclust_accel.nn.conv import ConvDecoder, ConvEncoder
from deepclust_accel.nn.images import ToImages, ToRows

__all__ = ["Dcec", "DcecParams"]


@dataclass
class DcecParams(ReconstructedSelfTrainingParams, ImageParams):
    """Settings of dcec."""

    channels: tuple[int, ...] = param((32, 64, 128), "channels of the convolutions, each halving the image", low=1)
    kernels: tuple[int, ...] = param((5, 5, 3), "sides of their kernels, odd", unit="pixels", low=1)


class Dcec(ReconstructedSelfTraining):
    """Convolutional autoencoder and Student-t centers minimise MSE(x̂, x) + γ KL(P ‖ Q).

    Paper: Guo et al., ICONIP 2017. Differs: as idec; images of any size (layers of stride 2 round up, where the authors
    let the last one drop the edge). Rows are images by the data set's entry, by having 2 or 3 axes, or by ``image_shape``.
    Cost of an epoch: O(N·H·W·channels²) and as idec. Assumes and fails as idec.
    """

    info = MethodInfo("dcec", "Guo et al., ICONIP 2017", "self-training of a convolutional autoencoder")
    Params = DcecParams

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        p, layout = self.params, require_images(self.params, self.data, "dcec")
        if len(p.channels) != len(p.kernels) or not p.channels or any(k % 2 == 0 for k in p.kernels):
            raise ArgumentError(f"kernels: expected an odd one for each of channels {p.channels}, got {p.kernels}")
        options = (layout.channels, layout.height, layout.width), p.channels, p.kernels, p.latent_dim
        return (
            nn.Sequential(ToImages(layout), ConvEncoder(*options)),
            nn.Sequential(ConvDecoder(*options), ToRows(layout)),
        )
