"""cm and ae-cm: losses by hand in both forms, starts, the averaging epoch, what is refused."""

import numpy as np
import pytest
import torch
from standstill import Window, build, one_step, some_rows

from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.ae_cm import AeCm, orthogonality_loss
from deepclust_accel.methods.cm import Cm, averaging_step

SMALL = {"hidden": (9,), "latent_dim": 4, "n_init": 2}


def test_the_orthogonality_terms_have_their_recorded_values():
    u = torch.from_numpy(np.sin(0.2 + 2 * np.arange(3)[:, None] + np.arange(3)[None]))
    assert float(orthogonality_loss(u, "l1")) == pytest.approx(6.011337020049, rel=1e-8)
    squares = sum((float(u[k] @ u[m]) - (k == m)) ** 2 for k in range(3) for m in range(3))
    assert float(orthogonality_loss(u, "squared")) == pytest.approx(squares, rel=1e-12)
    assert float(orthogonality_loss(torch.eye(3), "l1")) == 0


@pytest.mark.parametrize("reduction", ["sum", "normalized"])
def test_the_loss_of_cm_is_soft_k_means_and_a_prior(reduction):
    x = some_rows()
    method = build(Cm, reduction=reduction, alpha=(3.0,))
    loss, terms = one_step(method, method._step, x)
    gamma, u = (v.detach().double() for v in method.module(x))
    soft = sum(float(gamma[i, k] * (x[i] - u[k]).square().sum()) for i in range(40) for k in range(3))
    prior = sum(-2 * np.log(float(gamma[:, k].mean())) for k in range(3))
    size = x.numel() if reduction == "normalized" else 1
    assert terms["reconstruction"] + terms["sparsity"] + terms["merging"] == pytest.approx(soft / size, rel=1e-5)
    assert terms["prior"] == pytest.approx(prior, rel=1e-5)
    assert loss.item() == pytest.approx(soft / size + prior, rel=1e-5)


@pytest.mark.parametrize(("reduction", "orthogonality"), [("sum", "l1"), ("normalized", "squared")])
def test_the_joint_loss_by_hand(reduction, orthogonality):
    x = some_rows()
    method = build(
        AeCm,
        **SMALL,
        reduction=reduction,
        orthogonality=orthogonality,
        orthogonality_weight=0.7,
        beta=3.0,
        alpha=(1.5, 2.0, 4.0),
    )
    loss, terms = one_step(method, method._joint, x)
    with torch.no_grad():
        z = method.encoder(x).double()
        gamma, u = (v.double() for v in method.module(method.encoder(x)))
        restored = torch.sigmoid(method.decoder(method.encoder(x))).double()
    code = sum(float((z[i] - sum(gamma[i, k] * u[k] for k in range(3))).square().sum()) for i in range(40))
    sparsity = sum(float(gamma[i, k] * (1 - gamma[i, k])) for i in range(40) for k in range(3))
    off = [float(u[k] @ u[m]) - (k == m) for k in range(3) for m in range(3)]
    shares = sorted(float(gamma[:, k].mean()) for k in range(3))
    wanted = {
        "code": code,
        "sparsity": sparsity,
        "orthogonality": sum(abs(v) if orthogonality == "l1" else v * v for v in off),
        "prior": sum((1 - a) * np.log(s) for a, s in zip((1.5, 2.0, 4.0), shares, strict=True)),
        "reconstruction": sum(float((restored[i] - x[i]).square().sum()) for i in range(40)),
    }
    if reduction == "normalized":
        wanted |= {"code": code / 160, "sparsity": sparsity / 160, "reconstruction": wanted["reconstruction"] / 480}
    assert terms == pytest.approx(wanted, rel=1e-4)
    weights = {"orthogonality": 0.7, "reconstruction": 3.0}
    assert loss.item() == pytest.approx(sum(weights.get(k, 1) * v for k, v in wanted.items()), rel=1e-4)


def test_with_orthonormal_centroids_the_loss_is_that_of_the_module():
    from deepclust_accel.nn.clustering_module import module_losses

    x = some_rows()
    method = build(AeCm, **SMALL, reduction="sum")
    with torch.no_grad():
        method.module.set_means(torch.eye(4)[:3])
    _, terms = one_step(method, method._joint, x)
    alone = [float(v) for v in module_losses(method.embed(x), *method.module(method.embed(x)))]
    assert [terms["code"], terms["sparsity"]] == pytest.approx(alone[:2], rel=1e-5)
    assert alone[2] == pytest.approx(0, abs=1e-5) and terms["orthogonality"] == 0


@pytest.mark.parametrize("encoder_start", ["pseudoinverse", "posterior"])
def test_a_pretrained_start_keeps_reconstructions_and_knows_the_clusters(encoder_start):
    x = torch.cat([some_rows(20) * 0.1, 1 - some_rows(20) * 0.1])
    method = build(AeCm, k=2, **SMALL, encoder_start=encoder_start)
    before = method.decoder(method.embed(x))
    with torch.no_grad():
        method._init_module(Window(x))
    assert torch.allclose(method.decoder(method.embed(x)), before, atol=1e-5)
    assert method.module.means().norm(dim=1).mean().item() == pytest.approx(1, rel=1e-4)
    labels = method.assign(method.embed(x)).argmax(1)
    assert len(set(labels[:20].tolist())) == len(set(labels[20:].tolist())) == 1 and labels[0] != labels[-1]


def test_the_averaging_epoch_ends_with_the_mean_of_its_weights():
    layer = torch.nn.Linear(1, 1, bias=False)
    seen = [1.0, 4.0, -2.0, 5.0]
    step = averaging_step(lambda nets, batch, run: None, {"layer": layer})
    for number, value in enumerate(seen):
        generator = step(None, None, Window(torch.zeros(1), step=number, steps_per_epoch=4))
        next(generator)
        with torch.no_grad():
            layer.weight.fill_(value)  # what an optimizer did
        assert next(generator, None) is None
    assert layer.weight.item() == pytest.approx(2.0)


def test_what_cannot_work_is_refused():
    with pytest.raises(ArgumentError, match="latent_dim: expected at least the number of clusters"):
        build(AeCm, k=5, **SMALL)
    with pytest.raises(ArgumentError, match="alpha: expected one value or one for each of 3 clusters, got 2"):
        build(Cm, alpha=(1.0, 2.0))
    assert build(AeCm, k=12, hidden=(5,)).params.latent_dim == 12


def test_a_random_start_has_no_pretraining():
    names = [s.name for s in build(AeCm, **SMALL, initialization="random", average_last_epoch=False).plan()]
    assert names == ["joint"]
    assert [s.name for s in build(Cm, initialization="random").plan()] == ["cluster", "average"]
