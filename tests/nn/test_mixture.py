"""The mixture prior against torch.distributions and closed-form gradients."""

import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from deepclust_accel.nn.mixture import DiagonalMixture


def problem(n=6, k=3, z=4):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    mixture = DiagonalMixture(k, z).double()
    with torch.no_grad():
        for p in mixture.parameters():
            p.copy_(draw(*p.shape))
    return mixture, draw(n, z), draw(n, z), draw(n, k).log_softmax(1)


def test_both_terms_are_the_divergences_of_torch_distributions():
    mixture, mu, log_variance, log_gamma = problem()
    kl_gaussian, kl_cluster = mixture(mu, log_variance, log_gamma)
    sigma = torch.exp(0.5 * mixture.log_variance)
    for i in range(len(mu)):
        q = Independent(Normal(mu[i], torch.exp(0.5 * log_variance[i])), 1)
        expected = sum(
            log_gamma[i, k].exp() * kl_divergence(q, Independent(Normal(mixture.mean[k], sigma[k]), 1))
            for k in range(3)
        )
        assert torch.allclose(kl_gaussian[i], expected)
        assert torch.allclose(
            kl_cluster[i], kl_divergence(Categorical(logits=log_gamma[i]), Categorical(logits=mixture.logits))
        )


def test_gradients_are_those_of_the_closed_form():
    """methods of the paper's eq. 3.6: d/dmu, d/ds, d/dmean, d/dlog variance, d/dlogits."""
    mixture, mu, s, log_gamma = problem()
    mu.requires_grad_(), s.requires_grad_()
    kl_gaussian, kl_cluster = mixture(mu, s, log_gamma)
    (kl_gaussian + kl_cluster).sum().backward()
    gamma, precision = log_gamma.exp(), torch.exp(-mixture.log_variance.detach())
    difference = mu.detach()[:, None] - mixture.mean.detach()
    v = s.detach().exp()[:, None] + difference.square()
    assert torch.allclose(mu.grad, (gamma[:, :, None] * difference * precision).sum(1))
    assert torch.allclose(s.grad, 0.5 * s.detach().exp() * (gamma @ precision) - 0.5)
    assert torch.allclose(mixture.mean.grad, -(gamma[:, :, None] * difference * precision).sum(0))
    assert torch.allclose(mixture.log_variance.grad, 0.5 * (gamma[:, :, None] * (1 - v * precision)).sum(0))
    assert torch.allclose(mixture.logits.grad, len(mu) * mixture.logits.detach().softmax(0) - gamma.sum(0))


def test_a_standard_normal_prior_gives_the_kl_of_a_plain_vae():
    mixture = DiagonalMixture(1, 4).double()
    _, mu, log_variance, _ = problem()
    kl_gaussian, kl_cluster = mixture(mu, log_variance, torch.zeros(6, 1, dtype=torch.float64))
    assert torch.allclose(kl_gaussian, -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum(1))
    assert torch.equal(kl_cluster, torch.zeros(6, dtype=torch.float64))


def test_setting_from_clusters_takes_moments_and_survives_empty_and_constant_ones():
    mixture = DiagonalMixture(3, 2)
    z = torch.tensor([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0]])
    mixture.set_from_clusters(z, torch.tensor([0, 0, 1]))
    assert torch.allclose(mixture.mean[0], torch.tensor([1.0, 2.0]))
    assert torch.allclose(mixture.log_variance[0].exp(), torch.tensor([1.0, 4.0]))
    assert torch.allclose(mixture.log_variance[1].exp(), torch.full((2,), 1e-6))
    assert torch.allclose(mixture.logits.softmax(0)[:2] / mixture.logits.softmax(0)[0], torch.tensor([1.0, 0.5]))
    assert all(torch.isfinite(p).all() for p in mixture.parameters())


def test_autocast_costs_no_digits():
    mixture, *inputs = problem(200, 10, 16)
    mixture, inputs = mixture.float(), [x.float() for x in inputs]
    expected = mixture(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        got = mixture(*inputs)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32 and torch.allclose(a, b, rtol=1e-5, atol=1e-5)
