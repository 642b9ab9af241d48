"""soft_assign: known answers, then float64, then properties."""

import functools
import math

import pytest
import scipy.stats
import torch
from center_cases import BESIDE_EAGER, CASES, Case, check_rows_op, dense_assign, errors_beside_eager, value_and_pullback

from deepclust_accel.ops import soft_assign


def test_two_centers_by_hand(kernel):
    z = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    q = soft_assign(z, centers)  # weights 1 and 1/2; 1/5 and 1/2
    assert q.flatten().tolist() == pytest.approx([2 / 3, 1 / 3, 2 / 7, 5 / 7], rel=1e-14)
    q[0, 1].backward()  # q = (1/2) / (3/2); dw/dx = -w^2 2 (x - c) = 1/2 for the second center, 0 for the first
    assert z.grad.flatten().tolist() == pytest.approx([0.5 / 1.5 - 0.5 * 0.5 / 1.5**2, 0, 0, 0], abs=1e-15)
    assert centers.grad.flatten().tolist() == pytest.approx([0, 0, -2 / 9, 0], abs=1e-15)


@pytest.mark.parametrize("dof", [1.0, 2.5, 30.0])
def test_in_one_dimension_it_is_the_density_of_students_t(kernel, dof):
    z, centers = Case(50, 7, 1).rows(torch.float64)
    density = torch.tensor(scipy.stats.t.pdf((z - centers.T).numpy(), dof))
    want = density / density.sum(1, keepdim=True)
    torch.testing.assert_close(soft_assign(z, centers, dof=dof), want, rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_float64(kernel, case, dtype):
    limit = None if kernel != "reference" else {torch.float32: 1e-4, torch.float64: 1e-11}[dtype]
    for dof in (1.0, 4.0):
        call, dense = functools.partial(soft_assign, dof=dof), functools.partial(dense_assign, dof=dof)
        inputs, upstream = case.rows(dtype), case.upstream(dtype)
        check_rows_op(call, dense, inputs, upstream, tolerance=limit)


@pytest.mark.parametrize("dof", [1.0, 4.0])
@pytest.mark.parametrize("case", BESIDE_EAGER, ids=str)
def test_is_as_accurate_as_eager_pytorch(kernel, case, dof):
    if kernel == "reference":
        pytest.skip("the reference trades digits for memory")
    call, dense = functools.partial(soft_assign, dof=dof), functools.partial(dense_assign, dof=dof)
    assert max(errors_beside_eager(call, dense, Case.rows, case)) < 1.5


@pytest.mark.parametrize("dof", [1.0, 3.0])
def test_invariances(kernel, dof):
    case = Case(100, 13, 5)
    (z, centers), g = case.rows(torch.float64), case.upstream(torch.float64)
    call = functools.partial(soft_assign, dof=dof)
    q, g_z, g_centers = value_and_pullback(call, (z, centers), g)
    torch.testing.assert_close(q.sum(1), torch.ones(100, dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(g_z.sum(0), -g_centers.sum(0), rtol=0, atol=1e-12)  # moving everything changes nothing
    moved = value_and_pullback(call, (z - 5, centers - 5), g)
    turned = value_and_pullback(call, (z.flip(0), centers.flip(0)), g.flip(0, 1))
    for got, want in zip(moved, (q, g_z, g_centers), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)
    for got, want in zip(turned, (q.flip(0, 1), g_z.flip(0), g_centers.flip(0)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)


def test_far_rows_do_not_underflow(kernel):
    """(1 + 1e6)^(-50) is 1e-300: zero in float32 for every center."""
    z, centers = torch.full((3, 1), 1e4), torch.tensor([[0.0], [1.0], [-1.0]])
    q = soft_assign(z, centers, dof=99.0)
    # the ratio of two weights is ((99 + 1e8) / (99 + 9999^2))^50, about exp(50 * 2 / 1e4)
    assert (q[0, 1] / q[0, 0]).item() == pytest.approx(((99 + 1e8) / (99 + 9999.0**2)) ** 50, rel=1e-4)


def test_many_degrees_of_freedom_are_a_gaussian(kernel):
    z, centers = Case(40, 6, 3).rows(torch.float64)
    want = (-0.5 * (z[:, None] - centers).square().sum(2)).softmax(1)
    torch.testing.assert_close(soft_assign(z, centers, dof=1e9), want, rtol=1e-6, atol=0)


def test_a_row_that_is_not_finite_spoils_itself_only(kernel):
    for dof in (1.0, 3.0):
        for bad in (math.nan, math.inf):
            z, centers = Case(40, 6, 3).rows()
            want = soft_assign(z, centers, dof=dof)
            z[7, 1] = bad
            got = soft_assign(z, centers, dof=dof)
            assert got[7].isnan().all() or (dof == 1 and bad == math.inf and not torch.equal(got[7], want[7]))
            keep = torch.arange(40) != 7
            torch.testing.assert_close(got[keep], want[keep], rtol=1e-6, atol=0)


@pytest.mark.parametrize("dof", [0.0, -1.0, math.inf, math.nan])
def test_bad_degrees_of_freedom(dof):
    with pytest.raises(ValueError, match="soft_assign: dof: expected a positive number, got .*; 1 is"):
        soft_assign(torch.ones(2, 2), torch.ones(2, 2), dof=dof)
