"""The clustering module: its identity with soft k-means, recorded values, its starts, the order-free prior."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from deepclust_accel.nn.clustering_module import ClusteringModule, dirichlet_loss, module_losses


def fixed():
    """The fixed inputs of the project's notes: N = 7, q = 3, K = 3."""
    i, j = np.arange(7)[:, None], np.arange(3)[None]
    x = np.sin(1 + 2 * i + 3 * j)
    gamma = np.exp(np.sin(0.5 + i * (1 + j)))
    u = np.sin(0.2 + 2 * np.arange(3)[:, None] + j)
    return [torch.from_numpy(v) for v in (x, gamma / gamma.sum(1, keepdims=True), u)]


def test_terms_have_their_recorded_values():
    x, gamma, u = fixed()
    found = [*module_losses(x, gamma, u), dirichlet_loss(gamma, torch.tensor([5.0]))]
    wanted = [10.934593491848, 6.393658580312, 3.179067938321, 13.188573765736]
    assert [float(v) for v in found] == pytest.approx(wanted, rel=1e-8)


def test_terms_are_those_of_double_loops_and_sum_to_soft_k_means():
    generator = torch.Generator().manual_seed(0)
    x, u = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (11, 5))
    gamma = torch.randn(11, 5, generator=generator, dtype=torch.float64).softmax(1)
    e1 = sum(((x[i] - sum(gamma[i, k] * u[k] for k in range(5))) ** 2).sum() for i in range(11))
    e2 = sum(gamma[i, k] * (1 - gamma[i, k]) * u[k].dot(u[k]) for i in range(11) for k in range(5))
    e3 = -sum(
        gamma[i, k] * gamma[i, m] * u[k].dot(u[m]) for i in range(11) for k in range(5) for m in range(5) if m != k
    )
    found = module_losses(x, gamma, u)
    assert [float(v) for v in found] == pytest.approx([float(e1), float(e2), float(e3)], rel=1e-10)
    soft = sum(gamma[i, k] * ((x[i] - u[k]) ** 2).sum() for i in range(11) for k in range(5))
    assert float(sum(found)) == pytest.approx(float(soft), rel=1e-10)


def test_the_module_is_the_posterior_of_equal_isotropic_gaussians():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    means = rows[:4]
    mixture = GaussianMixture(4, covariance_type="spherical")
    mixture.weights_, mixture.means_ = np.full(4, 0.25), means
    mixture.covariances_ = np.full(4, 0.3)
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    module = ClusteringModule(3, 4).double()
    module.set_means(torch.from_numpy(means), 0.3)
    gamma, decoded = module(torch.from_numpy(rows))
    np.testing.assert_allclose(gamma.detach(), mixture.predict_proba(rows), atol=1e-10)
    np.testing.assert_allclose(decoded.detach(), means)
    np.testing.assert_allclose(module.assign(torch.from_numpy(rows)).detach(), gamma.detach(), atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_the_pseudoinverse_start_encodes_centers_as_unit_vectors(bias):
    means = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    module = ClusteringModule(5, 3, bias)
    module.set_means(means)
    logits = module.encoder(means)
    assert torch.allclose(logits, torch.eye(3), atol=1e-5) and torch.equal(module.means(), means)


def test_means_are_what_one_hot_codes_decode_to():
    module = ClusteringModule(4, 3)
    assert torch.allclose(module.means(), module.decoder(torch.eye(3)), atol=1e-6)


def test_the_prior_of_a_vector_does_not_depend_on_the_order_of_clusters():
    gamma, alpha = fixed()[1], torch.tensor([4.0, 1.0, 2.0], dtype=torch.float64)
    shares, order = np.sort(gamma.mean(0).numpy()), np.sort(alpha.numpy())
    wanted = ((1 - order) * np.log(shares + 1e-10)).sum()
    assert float(dirichlet_loss(gamma, alpha)) == pytest.approx(wanted, rel=1e-12)
    assert float(dirichlet_loss(gamma[:, [2, 0, 1]], alpha)) == pytest.approx(wanted, rel=1e-12)


def test_balance_is_the_minimum_of_the_prior():
    even, uneven = torch.full((1, 3), 1 / 3), torch.tensor([[0.5, 0.3, 0.2]])
    alpha = torch.tensor([2.0])
    assert float(dirichlet_loss(even, alpha)) < float(dirichlet_loss(uneven, alpha))
