"""VaDE's loss against Bayes' rule and Gaussian divergences by other means, its identities, and how it starts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import multivariate_normal
from standstill import Window, build, one_step, some_rows
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from deepclust_accel.methods.vade import Vade

SMALL = {"hidden": (9,), "latent_dim": 2, "n_init": 2, "initializer": "kmeans"}


def started(k=3, **settings):
    x = some_rows()
    method = build(Vade, k, **{**SMALL, **settings})
    with torch.no_grad():
        method._init_mixture(Window(x))
    return method, x


def sample(method, x):
    hidden = method.encoder(x, 0, 1)
    mu, s = method.encoder(hidden, 1), method.log_variance(hidden)
    return mu, s, mu + torch.exp(s / 2) * torch.randn(mu.shape, generator=torch.Generator().manual_seed(1))


def test_the_posterior_is_bayes_rule_with_scipys_densities():
    method, x = started()
    z, mixture = method.embed(x).detach().numpy(), method.mixture
    pi = mixture.logits.detach().double().softmax(0).numpy()
    density = np.stack(
        [
            pi[k]
            * multivariate_normal(mixture.mean[k].detach(), np.diag(mixture.log_variance[k].detach().exp())).pdf(z)
            for k in range(3)
        ],
        1,
    )
    np.testing.assert_allclose(
        method.assign(torch.from_numpy(z)).detach(), density / density.sum(1, keepdims=True), atol=1e-5
    )


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_loss_is_reconstruction_and_torchs_divergences(decoder):
    method, x = started(decoder=decoder)
    loss, terms = one_step(method, method._joint, x)
    with torch.no_grad():
        mu, s, z = (v.double() for v in sample(method, x))
        output = method.decoder(z.float()).double()
        gamma, prior = method.assign(z.float()).double(), method.mixture
        q = Independent(Normal(mu[:, None], torch.exp(s / 2)[:, None]), 1)
        p = Independent(Normal(prior.mean.double(), torch.exp(prior.log_variance.double() / 2)), 1)
        kl_gaussian = (gamma * kl_divergence(q, p)).sum(1).mean()
        kl_cluster = kl_divergence(Categorical(probs=gamma), Categorical(logits=prior.logits.double())).mean()
        if decoder == "bernoulli":
            reconstruction = F.binary_cross_entropy(torch.sigmoid(output), x.double(), reduction="sum") / len(x)
        else:
            reconstruction = (torch.sigmoid(output) - x).square().sum() / len(x)  # λ = 1/2, as the authors have it
    wanted = {"reconstruction": reconstruction, "kl_gaussian": kl_gaussian, "kl_cluster": kl_cluster}
    assert terms == pytest.approx({name: float(v) for name, v in wanted.items()}, rel=1e-4, abs=1e-6)
    assert loss.item() == pytest.approx(float(sum(wanted.values())), rel=1e-4)


def test_with_one_standard_component_it_is_a_vae():
    method, x = started(k=1)
    with torch.no_grad():
        method.mixture.mean.zero_()
        method.mixture.log_variance.zero_()
    _, terms = one_step(method, method._joint, x)
    mu, s, _ = sample(method, x)
    standard = -0.5 * (1 + s - mu.square() - s.exp()).sum(1).mean().item()
    assert terms["kl_gaussian"] == pytest.approx(standard, rel=1e-4) and terms["kl_cluster"] == pytest.approx(
        0, abs=1e-6
    )


def test_the_mixture_starts_at_the_clusters():
    method, x = started()
    codes, labels = method.embed(x), torch.cdist(method.embed(x), method.mixture.mean).argmin(1)
    for k in range(3):
        mine = codes[labels == k]
        assert torch.allclose(method.mixture.mean[k], mine.mean(0), atol=1e-4)
        assert torch.allclose(
            method.mixture.log_variance[k].exp(), mine.var(0, unbiased=False).clamp_min(1e-6), rtol=1e-3
        )
    shares = method.mixture.logits.softmax(0)
    assert torch.allclose(shares, torch.bincount(labels, minlength=3) / len(x), atol=1e-6)


@pytest.mark.parametrize(("unit_range", "decoder"), [(True, "bernoulli"), (False, "gaussian")])
def test_the_decoder_fits_the_values(unit_range, decoder):
    assert build(Vade, **SMALL, unit_range=unit_range).params.decoder == decoder
