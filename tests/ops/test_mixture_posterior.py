"""mixture_posterior: scikit-learn's and torch's mixtures, then float64, then properties."""

import math

import pytest
import torch
from center_cases import (
    BESIDE_EAGER,
    CASES,
    Case,
    check_rows_op,
    dense_posterior,
    errors_beside_eager,
    value_and_pullback,
)
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from deepclust_accel.ops import mixture_posterior


def test_is_the_posterior_of_scikit_learn(kernel):
    z, log_weights, mean, log_variance = Case(200, 7, 5).mixture(torch.float64)
    theirs = GaussianMixture(7, covariance_type="diag")
    theirs.weights_, theirs.means_ = log_weights.exp().numpy(), mean.numpy()
    theirs.covariances_ = log_variance.exp().numpy()
    theirs.precisions_cholesky_ = (-0.5 * log_variance).exp().numpy()
    want = torch.tensor(theirs.predict_proba(z.numpy()))
    torch.testing.assert_close(
        mixture_posterior(z, log_weights, mean, log_variance).exp(), want, rtol=1e-10, atol=1e-14
    )


def test_differentiates_the_likelihood_of_torch_distributions(kernel):
    """d log p(z) / dlog w_k = sum_i r_ik - N w_k, and log p(z) = log w_k + log N_k(z) - log r_k for every k."""
    z, log_weights, mean, log_variance = Case(60, 4, 3).mixture(torch.float64)
    parts = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=log_weights), parts)
    log_r = mixture_posterior(z, log_weights, mean, log_variance)
    for k in range(4):
        each = Independent(Normal(mean[k], (0.5 * log_variance[k]).exp()), 1)
        torch.testing.assert_close(log_weights[k] + each.log_prob(z) - log_r[:, k], mixture.log_prob(z))


def test_two_components_by_hand(kernel):
    """Equal variances: the log odds are a straight line in z."""
    z = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    mean, log_variance = torch.tensor([[0.0], [2.0]]).double(), torch.full((2, 1), math.log(4.0), dtype=torch.float64)
    log_r = mixture_posterior(z, torch.tensor([0.0, math.log(3.0)], dtype=torch.float64), mean, log_variance)
    odds = [math.log(3) + (2 * x - 2) / 4 for x in (0, 1, 3)]  # log 3 + (x^2 - (x - 2)^2) / 8
    assert (log_r[:, 1] - log_r[:, 0]).tolist() == pytest.approx(odds, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_float64(kernel, case, dtype):
    limit = None if kernel != "reference" else {torch.float32: 1e-3, torch.float64: 1e-11}[dtype]
    check_rows_op(mixture_posterior, dense_posterior, case.mixture(dtype), case.upstream(dtype), tolerance=limit)


@pytest.mark.parametrize("case", BESIDE_EAGER, ids=str)
def test_is_as_accurate_as_eager_pytorch(kernel, case):
    if kernel == "reference":
        pytest.skip("the reference trades digits for memory")
    assert max(errors_beside_eager(mixture_posterior, dense_posterior, Case.mixture, case)) < 1.5


def test_invariances(kernel):
    case = Case(100, 13, 5)
    (z, w, mean, v), g = case.mixture(torch.float64), case.upstream(torch.float64)
    log_r, g_z, g_w, g_mean, g_v = value_and_pullback(mixture_posterior, (z, w, mean, v), g)
    torch.testing.assert_close(log_r.exp().sum(1), torch.ones(100, dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(g_z.sum(0), -g_mean.sum(0), rtol=0, atol=1e-11)
    assert abs(g_w.sum().item()) < 1e-11  # a constant on all weights changes nothing
    torch.testing.assert_close(mixture_posterior(z - 5, w + 3, mean - 5, v), log_r, rtol=1e-10, atol=1e-12)
    wide = mixture_posterior(3 * z, w, 3 * mean, v + 2 * math.log(3))  # a change of unit
    torch.testing.assert_close(wide, log_r, rtol=1e-10, atol=1e-12)
    # the constant 5 log 3 that every log density loses is the same for all components
    turned = mixture_posterior(z, w.flip(0), mean.flip(0), v.flip(0))
    torch.testing.assert_close(turned.flip(1), log_r, rtol=1e-12, atol=1e-12)


def test_certain_rows_keep_finite_logarithms(kernel):
    """e^-5000 is zero in every type; its logarithm is not."""
    z, mean = torch.tensor([[0.0], [100.0]]), torch.tensor([[0.0], [100.0]])
    log_r = mixture_posterior(z, torch.zeros(2), mean, torch.zeros(2, 1))
    torch.testing.assert_close(log_r, torch.tensor([[0.0, -5000.0], [-5000.0, 0.0]]))


def test_a_row_that_is_not_finite_spoils_itself_only(kernel):
    for bad in (math.nan, math.inf):
        inputs = Case(40, 6, 3).mixture()
        want = mixture_posterior(*inputs)
        inputs[0][7, 1] = bad
        got = mixture_posterior(*inputs)
        keep = torch.arange(40) != 7
        assert got[7].isnan().all()
        torch.testing.assert_close(got[keep], want[keep], rtol=1e-5, atol=1e-6)
