"""wasserstein_similarity: known answers first, then the float64 reference, then properties."""

import math

import pytest
import torch
from wasserstein_cases import CASES, Case, dense

from deepclust_accel.ops import wasserstein_similarity
from deepclust_accel.testing.ops import check_op, value_and_gradients


def golden():
    i, j = torch.arange(7, dtype=torch.float64)[:, None], torch.arange(3, dtype=torch.float64)[None]
    mu, log_variance = torch.sin(1 + 2 * i + 3 * j), 0.5 * torch.cos(1 + i + 2 * j)
    return mu, (0.5 * log_variance).exp(), torch.sin(0.5 + i * (1 + j)).softmax(1)


def test_golden_values(kernel):
    """From a program in numpy that shares nothing with this one."""
    inputs = golden()
    loss, *gradients = value_and_gradients(wasserstein_similarity, inputs)
    assert loss.item() == pytest.approx(0.281203555775, abs=5e-13)
    norms = [g.norm().item() for g in (*gradients, 0.5 * inputs[1] * gradients[1])]
    want = [1.523522754785e-3, 1.927914136256e-3, 1.897218357301e-1, 1.009935548669e-3]
    assert norms == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("n, k", [(300, 10), (60, 3), (4, 2)])
def test_closed_forms(kernel, n, k):
    """k hard clusters of n / k equal rows at distance r: every row has n / k neighbours at q = 1, the rest at q."""
    size = n // k
    gamma = torch.eye(k, dtype=torch.float64).repeat_interleave(size, 0)
    far = 1e12 if kernel != "reference" else 30.0  # its product form would lose the digits of near rows
    for r in (0.0, 1.0, far):  # all equal, simplex of side r, perfect separation
        mu = gamma * r / math.sqrt(2)
        q = 1 / (1 + r * r)
        row = math.log(size * math.e + (n - size) * math.exp(q)) - 1
        rows = wasserstein_similarity(mu, torch.ones_like(mu), gamma, normalization="rows").item()
        assert rows == pytest.approx(row, rel=1e-12)
        assert wasserstein_similarity(mu, torch.ones_like(mu), gamma).item() == pytest.approx(row / n, rel=1e-12)


def test_two_rows_by_hand(kernel):
    mu = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    sigma, gamma = torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    loss, g_mu, g_sigma, g_gamma = value_and_gradients(wasserstein_similarity, (mu, sigma, gamma))
    log_z = math.log(math.e + math.exp(0.5))
    assert loss.item() == pytest.approx((2 * log_z - 1.5) / 4, rel=1e-14)
    slope = 0.25 * 0.25 * (2 * 0.5 - 2 * math.exp(0.5) / (math.e + math.exp(0.5)))  # S_01
    assert g_mu.flatten().tolist() == pytest.approx([-2 * slope, 2 * slope], rel=1e-13)
    assert not g_sigma.any()
    assert g_gamma.flatten().tolist() == pytest.approx([(log_z - 1.5 + 0.75) / 4] * 2, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_the_reference_in_float64(kernel, case, dtype):
    single = dtype == torch.float32 and kernel != "reference"
    limit = None if kernel != "reference" else (1e-3 if dtype == torch.float32 else 1e-12)
    check_op(wasserstein_similarity, case.inputs(dtype), rival=dense if single else None, tolerance=limit)


@pytest.mark.parametrize("name", ["pairs", "rows"])
def test_options(kernel, name):
    inputs = Case(130, 3, 4).inputs(torch.float64)
    scaled = wasserstein_similarity(*inputs, normalization=name) * (130 if name == "pairs" else 1)
    torch.testing.assert_close(scaled, dense(*inputs) * 130, rtol=1e-12, atol=0)
    mu, sigma, gamma = (x.clone().requires_grad_() for x in inputs)
    wasserstein_similarity(mu, sigma, gamma, normalization=name, detach_weights=True).backward()
    want = value_and_gradients(lambda *x: wasserstein_similarity(*x, normalization=name), inputs)
    assert gamma.grad is None
    torch.testing.assert_close((mu.grad, sigma.grad), want[1:3], rtol=1e-12, atol=0)


@pytest.mark.parametrize("wanted", range(8))
def test_only_the_gradients_that_are_needed(wanted):
    inputs = Case(70, 5, 3).inputs(torch.float32)
    full = value_and_gradients(wasserstein_similarity, inputs)
    leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(inputs)]
    loss = wasserstein_similarity(*leaves) * 3
    if wanted:
        loss.backward()
    for i, (leaf, want) in enumerate(zip(leaves, full[1:], strict=True)):
        assert leaf.grad is None if not wanted >> i & 1 else torch.allclose(leaf.grad, 3 * want, rtol=1e-5, atol=1e-12)


def test_invariances(kernel):
    mu, sigma, gamma = Case(100, 5, 4).inputs(torch.float64)
    loss, g_mu, g_sigma, g_gamma = value_and_gradients(wasserstein_similarity, (mu, sigma, gamma))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    shuffled = value_and_gradients(wasserstein_similarity, (mu[order], sigma[order], gamma[order]))
    for got, want in zip(shuffled, (loss, g_mu[order], g_sigma[order], g_gamma[order]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-16)
    moved = value_and_gradients(wasserstein_similarity, (mu + 7, sigma - 3, gamma.flip(1)))
    for got, want in zip(moved, (loss, g_mu, g_sigma, g_gamma.flip(1)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-15)
    swapped = value_and_gradients(wasserstein_similarity, (sigma, mu, gamma))
    torch.testing.assert_close(swapped[1:3], (g_sigma, g_mu), rtol=1e-10, atol=1e-16)
    assert g_mu.sum(0).abs().max() < 1e-15  # moving every row changes nothing


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_not_a_number_comes_through(kernel, dtype):
    for i in range(3):
        for bad in (math.nan, math.inf, -math.inf):
            inputs = [x.clone() for x in Case(70, 3, 4).inputs(dtype)]
            inputs[i][41, 2] = bad
            assert not wasserstein_similarity(*inputs).isfinite(), (i, bad)


def test_huge_distances_are_no_pairs(kernel):
    mu = torch.tensor([[0.0], [1e30], [-1e30]])
    loss, *gradients = value_and_gradients(wasserstein_similarity, (mu, torch.ones(3, 1), torch.eye(3)))
    assert loss.item() == pytest.approx((math.log(math.e + 2) - 1) / 3, rel=1e-6)
    assert not gradients[0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_compute_in_float32(dtype):
    inputs = [x.to(dtype) for x in Case(65, 3, 4).inputs(torch.float32)]
    loss, *gradients = value_and_gradients(wasserstein_similarity, inputs)
    wide = value_and_gradients(wasserstein_similarity, [x.float() for x in inputs])
    assert loss.dtype == torch.float32 and torch.equal(loss, wide[0])
    assert all(g.dtype == dtype and torch.equal(g, w.to(dtype)) for g, w in zip(gradients, wide[1:], strict=True))


def test_gradcheck(kernel):
    for case in (Case(7, 3, 3), Case(5, 2, 4, empty=True)):
        mu, sigma, gamma = case.inputs(torch.float64)
        leaves = [x.clone().requires_grad_() for x in (mu, sigma, gamma if not case.empty else gamma + 1e-3)]
        assert torch.autograd.gradcheck(wasserstein_similarity, leaves)
