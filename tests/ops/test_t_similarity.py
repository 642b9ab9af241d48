"""t_similarity: known answers first, then the float64 reference, then properties."""

import math

import pytest
import torch
from t_cases import CASES, KINDS, Case

from deepclust_accel.ops import t_similarity
from deepclust_accel.testing.ops import check_op, value_and_gradients


@pytest.mark.parametrize(
    "dof_z, normalization, diagonal, loss, norm_z, norm_e",
    [
        (100.0, "global", True, 4.104660289214, 6.521119860423e-02, 1.518955463442e-01),
        (100.0, "global", False, 4.017741866216, 1.139740290424e-01, 1.719532048814e-01),
        (6.0, "global", True, 4.108202081826, 6.935257771917e-02, 1.474489008613e-01),
        (6.0, "global", False, 4.014836131874, 1.094290667055e-01, 1.632992174148e-01),
        (6.0, "rows", False, 14.606838464018, 5.672655967465e-01, 6.336089444148e-01),
    ],
)
def test_golden_values(kernel, dof_z, normalization, diagonal, loss, norm_z, norm_e):
    """From a program in numpy that shares nothing with this one."""
    i, j = torch.arange(7, dtype=torch.float64)[:, None], torch.arange(4, dtype=torch.float64)[None]
    z, e = torch.sin(1 + 2 * i + 3 * j)[:, :3], torch.cos(0.3 + i + 1.7 * j)
    case = Case(7, dof_z=dof_z, normalization=normalization, diagonal=diagonal)
    value, g_z, g_e = value_and_gradients(case.call, (z, e))
    assert value.item() == pytest.approx(loss, abs=5e-12)
    assert (g_z.norm().item(), g_e.norm().item()) == pytest.approx((norm_z, norm_e), rel=1e-11)


@pytest.mark.parametrize("n", [2, 64, 100])
def test_closed_forms(kernel, n):
    """q uniform gives the logarithm of the number of pairs; p and q equal give the entropy of p."""
    g = torch.Generator().manual_seed(0)
    z, flat = torch.randn(n, 3, generator=g, dtype=torch.float64), torch.zeros(n, 2, dtype=torch.float64)
    pairs = {("global", True): n * n, ("global", False): n * (n - 1), ("rows", True): n, ("rows", False): n - 1}
    for (normalization, diagonal), count in pairs.items():
        loss = t_similarity(z, flat, dof_z=6.0, normalization=normalization, include_diagonal=diagonal).item()
        assert loss == pytest.approx((n if normalization == "rows" else 1) * math.log(count), rel=1e-12)
    p = (1 + torch.cdist(z, z).square()).reciprocal()
    p /= p.sum()
    assert t_similarity(z, z, dof_z=1.0).item() == pytest.approx(-(p * p.log()).sum().item(), rel=1e-12)


def test_minimum_where_q_is_p(kernel):
    """Cross-entropy is least at q = p, so e has no gradient there."""
    z = Case(70, 4).inputs(torch.float64)[0]
    for normalization, diagonal in KINDS:
        case = Case(70, dof_z=2.5, dof_e=2.5, normalization=normalization, diagonal=diagonal)
        assert value_and_gradients(case.call, (z, z.clone()))[2].abs().max() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_the_reference_in_float64(kernel, case, dtype):
    """Not less accurate than the dense loss either: from 8 rows on, as a sum over one or two pairs can be exact by luck, and
    but for 2^-22 times the power of 1 + x, which multiplies the rounding of x."""
    single = dtype == torch.float32 and kernel != "reference"
    limit = None if kernel != "reference" else (2e-3 if dtype == torch.float32 else 1e-12)
    if kernel == "reference" and case.shift and dtype == torch.float32:
        limit = 2e-2  # the reference is centred, but its mean is rounded
    rival = case.rival if single and case.n >= 8 else None
    power = (max(case.dof_z, case.dof_e) + 1) / 2
    check_op(case.call, case.inputs(dtype), rival=rival, tolerance=limit, rounding=power * 2.0**-22)


@pytest.mark.parametrize("wanted", range(4))
@pytest.mark.parametrize("normalization, diagonal", KINDS)
def test_only_the_gradients_that_are_needed(wanted, normalization, diagonal):
    case = Case(70, 5, 3, normalization=normalization, diagonal=diagonal)
    inputs = case.inputs(torch.float32)
    full = value_and_gradients(case.call, inputs)
    leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(inputs)]
    loss = case.call(*leaves) * 3
    if wanted:
        loss.backward()
    for i, (leaf, want) in enumerate(zip(leaves, full[1:], strict=True)):
        assert leaf.grad is None if not wanted >> i & 1 else torch.allclose(leaf.grad, 3 * want, rtol=1e-5, atol=1e-9)


def test_detached_target(kernel):
    z, e = (x.requires_grad_() for x in Case(30, 4, 4).inputs(torch.float64))
    t_similarity(z, e, dof_z=8.0, detach_target=True).backward()
    want = value_and_gradients(lambda z, e: t_similarity(z, e, dof_z=8.0), (z, e))
    assert z.grad is None
    torch.testing.assert_close(e.grad, want[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("normalization, diagonal", KINDS)
def test_invariances(kernel, normalization, diagonal):
    case = Case(100, 5, 4, normalization=normalization, diagonal=diagonal)
    z, e = case.inputs(torch.float64)
    loss, g_z, g_e = value_and_gradients(case.call, (z, e))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    shuffled = value_and_gradients(case.call, (z[order], e[order]))
    for got, want in zip(shuffled, (loss, g_z[order], g_e[order]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-14)
    moved = value_and_gradients(case.call, (z + 7, e.flip(1) - 3))
    for got, want in zip(moved, (loss, g_z, g_e.flip(1)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-13)
    assert max(g_z.sum(0).abs().max(), g_e.sum(0).abs().max()) < 1e-12  # moving every row changes nothing


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("normalization, diagonal", KINDS)
def test_not_a_number_comes_through(kernel, dtype, normalization, diagonal):
    case = Case(70, 3, 4, normalization=normalization, diagonal=diagonal)
    for i in range(2):
        for bad in (math.nan, math.inf, -math.inf):
            inputs = [x.clone() for x in case.inputs(dtype)]
            inputs[i][41, 2] = bad
            assert not case.call(*inputs).isfinite(), (i, bad)


@pytest.mark.parametrize("normalization", ["global", "rows"])
def test_far_apart_without_the_diagonal(kernel, normalization):
    """Rows so far apart that p~ is 1e-140 are neighbours all the same: p is a share, not a size."""
    z = torch.arange(40.0)[:, None] * 1e3
    e = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    case = Case(40, dof_z=100.0, normalization=normalization, diagonal=False)
    check_op(case.call, (z, e), tolerance=1e-2 if kernel == "reference" else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_compute_in_float32(dtype):
    case = Case(65, 3, 4)
    inputs = [x.to(dtype) for x in case.inputs(torch.float32)]
    loss, *gradients = value_and_gradients(case.call, inputs)
    wide = value_and_gradients(case.call, [x.float() for x in inputs])
    assert loss.dtype == torch.float32 and torch.equal(loss, wide[0])
    assert all(g.dtype == dtype and torch.equal(g, w.to(dtype)) for g, w in zip(gradients, wide[1:], strict=True))


@pytest.mark.parametrize("normalization, diagonal", KINDS)
def test_gradcheck(kernel, normalization, diagonal):
    case = Case(7, 3, 2, 6.0, 2.0, normalization, diagonal)
    assert torch.autograd.gradcheck(case.call, [x.requires_grad_() for x in case.inputs(torch.float64)])
