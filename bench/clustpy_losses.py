"""Losses of one step beside ClustPy's on the same random codes: value up to a constant, gradients; exit 1 if they differ.

    pip install -e ".[clustpy]"
    python bench/clustpy_losses.py

Compared where both define the same thing. DEC and IDEC: ours is KL(P ‖ Q), theirs the cross-entropy, which differs by the
entropy of P. VaDE: γ is compared at unit variances, since ClustPy's density has log σ² where a Gaussian has ½ log σ², and in
two dimensions, since it adds 1e-10 to densities; the divergence at any variance, given γ; constants with 2π are theirs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.methods.dkm import annealed_alpha
from deepclust_accel.methods.self_training import divergence, sharpen
from deepclust_accel.nn.centers import SoftminCenters, StudentCenters
from deepclust_accel.nn.mixture import DiagonalMixture

ROWS, CLUSTERS, LATENT = 300, 7, 10
Pair = tuple[str, Tensor, Tensor]


def gradients(loss: Tensor, *of: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, of, retain_graph=True)])


def dec(z: Tensor, centers: Tensor) -> Iterator[Pair]:
    from clustpy.deep.dec import _dec_compression_loss_fn, _dec_compression_value, _dec_predict

    module = StudentCenters(CLUSTERS, LATENT)
    module.positions.data.copy_(centers)
    q, their_q = module(z), _dec_predict(centers, z, 1.0, None)
    yield "dec, idec: q", q, their_q
    p = sharpen(q.detach(), q.detach().sum(0))
    yield "dec, idec: targets", p, _dec_compression_value(their_q)
    entropy = -(p * p.log()).sum(1).mean()
    ours, theirs = divergence(p, q), _dec_compression_loss_fn(their_q, p)
    yield "dec, idec: loss", ours + entropy, theirs
    yield "dec, idec: gradients", gradients(ours, z, module.positions), gradients(theirs, z, centers)


def dcn(z: Tensor, centers: Tensor) -> Iterator[Pair]:
    from clustpy.deep.dcn import _DCN_Module

    fixed = centers.detach()
    nearest = ops.nearest_center(z.detach(), fixed)[0]
    module = _DCN_Module(nearest.numpy(), fixed.clone().numpy())  # it writes into what it is given
    ours, theirs = (z - fixed[nearest]).square().sum(1).mean(), module.dcn_loss(z, nearest)
    yield "dcn: loss", ours, theirs
    yield "dcn: gradients", gradients(ours, z), gradients(theirs, z)
    before = torch.full((CLUSTERS,), 100.0)
    sums, counts = ops.center_sums(z.detach(), nearest, CLUSTERS)
    module.update_centroids(z.detach(), nearest)
    yield "dcn: centers after a batch", (fixed * before[:, None] + sums) / (before + counts)[:, None], module.centers


def dkm(z: Tensor, centers: Tensor) -> Iterator[Pair]:
    from clustpy.deep.dkm import _DKM_Module, _get_default_alphas

    yield "dkm: alphas", torch.tensor([annealed_alpha(i) for i in range(40)]), torch.tensor(_get_default_alphas())
    for alpha in (0.1, 28.0):
        ours = SoftminCenters(CLUSTERS, LATENT)
        ours.positions.data.copy_(centers)
        theirs = _DKM_Module(centers.detach().numpy(), [alpha])
        share, distance = ours(z, alpha)
        loss, their_loss = (share * distance).sum(1).mean(), theirs.dkm_loss(z, alpha)
        yield f"dkm: loss, alpha {alpha:g}", loss, their_loss
        yield (
            f"dkm: gradients, alpha {alpha:g}",
            gradients(loss, z, ours.positions),
            gradients(their_loss, z, theirs.centers),
        )


def vade(z: Tensor, centers: Tensor) -> Iterator[Pair]:
    from clustpy.deep.vade import _compute_vade_loss, _get_gamma

    logits = torch.linspace(-1, 1, CLUSTERS)
    plane = DiagonalMixture(CLUSTERS, 2)
    plane.mean.data.copy_(centers[:, :2])
    plane.logits.data.copy_(logits)
    theirs = _get_gamma(logits.softmax(0), plane.mean, plane.log_variance, z[:, :2])
    yield "vade: gamma", plane.posterior(z[:, :2]).exp(), theirs
    mixture = DiagonalMixture(CLUSTERS, LATENT)
    mixture.mean.data.copy_(centers)
    mixture.logits.data.copy_(logits)
    mixture.log_variance.data.copy_(torch.sin(torch.arange(CLUSTERS * LATENT)).view(CLUSTERS, LATENT))
    log_variance = (0.3 * torch.cos(torch.arange(ROWS * LATENT)).view(ROWS, LATENT)).requires_grad_()
    log_gamma = (z @ centers.T).log_softmax(1).detach()
    ours = sum(part.mean() for part in mixture(z, log_variance, log_gamma))
    nothing = torch.zeros(ROWS, 1)
    pi = mixture.logits.softmax(0)
    theirs = _compute_vade_loss(
        pi,
        mixture.mean,
        mixture.log_variance,
        z,
        log_variance,
        nothing,
        log_gamma.exp(),
        nothing,
        lambda a, b: 0.0,
        1.0,
        1.0,
    )
    yield "vade: divergence", ours + 0.5 * math.log(2 * math.pi) * (1 - 1 / ROWS), theirs
    of = (z, log_variance, mixture.mean, mixture.log_variance, mixture.logits)
    yield "vade: gradients", gradients(ours, *of), gradients(theirs, *of)


def main() -> None:
    g = torch.Generator().manual_seed(0)
    worst = 0.0
    for compare in (dec, dcn, dkm, vade):
        z = torch.randn(ROWS, LATENT, generator=g).requires_grad_()
        centers = torch.randn(CLUSTERS, LATENT, generator=g).requires_grad_()
        for name, ours, theirs in compare(z, centers):
            error = float((ours - theirs).detach().double().norm() / theirs.detach().double().norm())
            worst = max(worst, error)
            print(f"{name:32s} relative difference {error:.1e}")
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
