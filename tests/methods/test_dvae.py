"""DVAE's parts against independent computations: the joint loss by hand, initialisation, shared pretraining, schedule."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from standstill import Window

from deepclust_accel import DeepClusterer, fitting
from deepclust_accel.data import ArraySource, DataSpec
from deepclust_accel.engine.seeding import isolated
from deepclust_accel.methods.ae_kmeans import AeKMeans, AeKMeansParams
from deepclust_accel.methods.dvae import Dvae, DvaeParams

SMALL = {
    "hidden": (16, 8),
    "latent_dim": 3,
    "pretrain_epochs": 4,
    "classifier_steps": 40,
    "epochs": 2,
    "warmup_epochs": 1,
    "n_init": 3,
}
ROWS = load_digits().data[:200].astype(np.float32) / 16


def build(k=4, rows=200, unit_range=True, **changes):
    with isolated(0):
        return Dvae(DvaeParams(**{**SMALL, **changes}), k, DataSpec((64,), rows, unit_range))


def initialised(**changes):
    method, run = build(**changes), Window(torch.from_numpy(ROWS))
    with torch.no_grad():
        method._init_mixture(run)
    return method, run


def joint_loss(method, x, epoch):
    run = Window(x, epoch)
    loss = method._joint(SimpleNamespace(**method.parts()), SimpleNamespace(x=x), run)
    return loss.item(), run.logged


@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli"])
@pytest.mark.parametrize(("normalization", "beta_per"), [("pairs", "row"), ("rows", "row"), ("rows", "value")])
def test_the_joint_loss_is_the_papers_computed_row_by_row(decoder, normalization, beta_per):
    method, _ = initialised(decoder=decoder, normalization=normalization, beta_per=beta_per, beta=0.7)
    x = torch.from_numpy(ROWS[:8])
    got, terms = joint_loss(method, x, epoch=1)

    with torch.no_grad():
        hidden = torch.relu(method.encoder.layers[1](torch.relu(method.encoder.layers[0](x))))
        mu, s = method.encoder.layers[2](hidden), method.log_variance.layers[0](hidden)
        z = mu + torch.exp(s / 2) * torch.randn(mu.shape, generator=torch.Generator().manual_seed(1))
        gamma, restored = method.assign(z).double(), torch.sigmoid(method.decoder(z)).double()
        mu, s, xs = mu.double(), s.double(), x.double()
        mean, var = method.mixture.mean.double(), method.mixture.log_variance.double().exp()
        pi, lam = method.mixture.logits.double().softmax(0), float(method.reconstruction_variance)
        rec = kl_gaussian = kl_cluster = 0.0
        for i in range(8):
            for j in range(64):
                a, b = xs[i, j].item(), restored[i, j].item()
                rec += (
                    -a * math.log(b) - (1 - a) * math.log(1 - b) if decoder == "bernoulli" else (a - b) ** 2 / (2 * lam)
                )
            for k in range(4):
                kl = sum(
                    0.5
                    * (
                        math.log(var[k, m] / s[i, m].exp())
                        + (s[i, m].exp() + (mu[i, m] - mean[k, m]) ** 2) / var[k, m]
                        - 1
                    )
                    for m in range(3)
                )
                kl_gaussian += gamma[i, k] * kl
                kl_cluster += gamma[i, k] * math.log(gamma[i, k] / pi[k])
        sigma = torch.exp(s / 2)
        q = torch.tensor(
            [
                [1 / (1 + (mu[i] - mu[j]).square().sum() + (sigma[i] - sigma[j]).square().sum()) for j in range(8)]
                for i in range(8)
            ]
        )
        w = sum(gamma[:, k, None] * gamma[None, :, k] / gamma[:, k].sum() for k in range(4))
        similarity = -(w * torch.log_softmax(q, 1)).sum().item() / (64 if normalization == "pairs" else 8)
    expected = (rec + float(kl_gaussian) + float(kl_cluster)) / 8 + 0.7 * (
        64 if beta_per == "value" else 1
    ) * similarity
    assert terms["reconstruction"] == pytest.approx(rec / 8, rel=1e-4)
    assert terms["kl_gaussian"] == pytest.approx(float(kl_gaussian) / 8, rel=1e-4)
    assert terms["kl_cluster"] == pytest.approx(float(kl_cluster) / 8, rel=1e-3, abs=1e-5)
    assert terms["similarity"] == pytest.approx(similarity, rel=1e-5)
    assert got == pytest.approx(expected, rel=1e-4)


def test_the_similarity_loss_joins_after_the_warm_up():
    method, _ = initialised(beta_per="row")
    x = torch.from_numpy(ROWS[:50])
    before, terms = joint_loss(method, x, epoch=0)
    after, _ = joint_loss(method, x, epoch=1)
    assert after - before == pytest.approx(terms["similarity"], rel=1e-3)


def test_rescaling_the_codes_changes_no_reconstruction():
    method, x = build(), torch.from_numpy(ROWS)
    before, codes = method.decoder(method.embed(x)), method.embed(x)
    run = Window(x)
    with torch.no_grad():
        method._init_mixture(run)
    after = method.embed(x)
    assert torch.allclose(method.decoder(after), before, atol=1e-5)
    assert after.std(0, unbiased=False).mean().item() == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(after * (codes.std() / after.std()), codes, atol=1e-4)


def test_measured_variance_is_the_mean_squared_residual_and_a_given_one_is_kept():
    method, run = initialised(code_scale=None)
    residual = (torch.sigmoid(method.decoder(method.embed(run.x))) - run.x).square().mean()
    assert method.reconstruction_variance.item() == pytest.approx(residual.item(), rel=1e-4)
    assert initialised(reconstruction_variance=0.5)[0].reconstruction_variance.item() == 0.5


def test_the_posterior_starts_narrow_inside_the_clusters():
    method, run = initialised(posterior_share=0.2)
    codes = method.embed(run.x)
    labels = torch.cdist(codes, method.mixture.mean).argmin(1)
    within = torch.stack(
        [codes[labels == k].var(0, unbiased=False) * (labels == k).float().mean() for k in range(4)]
    ).sum(0)
    hidden = method.encoder(run.x, 0, 2)
    assert torch.allclose(method.log_variance(hidden).exp(), (0.2 * within).expand(200, -1), rtol=1e-3)


@pytest.mark.parametrize(("k", "layers"), [(2, 2), (9, 2), (10, 1), (12, 1)])
def test_the_classifier_has_a_hidden_layer_below_ten_clusters(k, layers):
    assert len(build(k).classifier) == layers


@pytest.mark.parametrize("pretraining", ["plain", "stacked"])
def test_ae_kmeans_with_the_same_seed_has_the_same_pretrained_networks(pretraining):
    """So that "over ae-kmeans with the same pretraining" compares what it says."""
    params = {"hidden": (16, 8), "latent_dim": 3, "pretrain_epochs": 3, "layer_epochs": 1, "pretraining": pretraining}
    a = DeepClusterer("ae-kmeans", 4, params=params, random_state=3).fit(ROWS)
    b = DeepClusterer(
        "dvae", 4, params={**params, "epochs": 0, "classifier_steps": 0, "code_scale": None}, random_state=3
    ).fit(ROWS)
    for name in ("encoder", "decoder"):
        mine, theirs = getattr(a.model_.network, name).state_dict(), getattr(b.model_.network, name).state_dict()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert torch.allclose(a.model_.network.centers, b.model_.network.mixture.mean, atol=1e-5)


def test_stacked_pretraining_trains_one_pair_of_layers_at_a_time():
    with isolated(0):
        method = AeKMeans(
            AeKMeansParams(hidden=(16, 8), latent_dim=3, pretraining="stacked"), 4, DataSpec((64,), 200, True)
        )
    run, batch = Window(torch.from_numpy(ROWS[:32])), SimpleNamespace(x=torch.from_numpy(ROWS[:32]))
    assert [s.name for s in method.plan()] == [
        "pretrain-layer-1",
        "pretrain-layer-2",
        "pretrain-layer-3",
        "pretrain",
        "k-means",
    ]
    for depth, stage in enumerate(method.plan()[:3]):
        method.zero_grad(set_to_none=True)
        stage.step(SimpleNamespace(**method.parts()), batch, run).backward()
        moved = {name for name, p in method.named_parameters() if p.grad is not None}
        expected = {f"encoder.layers.{depth}", f"decoder.layers.{2 - depth}"}
        assert moved == {f"{layer}.{kind}" for layer in expected for kind in ("weight", "bias")}


def test_the_rate_decays_by_steps_and_every_part_learns():
    method = build(decay=0.5, decay_epochs=3)
    joint = method.plan()[-1].groups["main"]
    assert [joint.decay(e) for e in (0, 2, 3, 6)] == [1, 1, 0.5, 0.25]
    assert set(joint.parts) == set(method.parts())


def test_joint_training_improves_on_its_own_initialisation():
    """Not just k-means: from the same pretraining, labels of digits agree better after joint training."""
    from deepclust_accel.metrics import nmi

    X, y = load_digits(return_X_y=True)
    params = {"hidden": (200, 200), "pretrain_epochs": 80, "warmup_epochs": 20, "epochs": 50}
    start, end = (
        DeepClusterer("dvae", 10, params=p, scaling="unit", random_state=0).fit(X)
        for p in ({**params, "epochs": 0}, params)
    )
    assert nmi(y, end.labels_) > nmi(y, start.labels_) + 0.02


def test_bernoulli_needs_values_in_the_unit_range():
    settings = fitting.Settings("dvae", 2, DvaeParams(**{**SMALL, "decoder": "bernoulli"}))
    with pytest.raises(ValueError, match="decoder: expected gaussian"):
        fitting.fit(settings, ArraySource(ROWS * 16))


def test_the_classifier_learns_the_k_means_labels():
    method, run = initialised(classifier_steps=1)
    group = method.plan()[-2]
    optimizer = torch.optim.Adam(method.classifier.parameters(), 1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        group.step(SimpleNamespace(**method.parts()), SimpleNamespace(x=run.x), run).backward()
        optimizer.step()
    pseudo = torch.cdist(method.embed(run.x), method.mixture.mean).argmin(1)
    assert run.logged["agreement"] > 0.9
    assert F.one_hot(method.assign(method.embed(run.x)).argmax(1), 4)[torch.arange(200), pseudo].double().mean() > 0.9
