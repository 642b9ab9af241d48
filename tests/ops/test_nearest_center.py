"""nearest_center: scikit-learn's predictions, float64, ties, values that are not finite."""

import math

import pytest
import torch
from center_cases import CASES, Case
from sklearn.cluster import KMeans

from deepclust_accel.ops import nearest_center


def test_is_what_scikit_learn_predicts(kernel):
    x, _ = Case(500, 12, 6).rows(torch.float64)
    theirs = KMeans(12, n_init=1, max_iter=3, random_state=0).fit(x.numpy())
    index, distance = nearest_center(x, torch.tensor(theirs.cluster_centers_))
    assert index.tolist() == theirs.predict(x.numpy()).tolist()
    want = torch.tensor(theirs.transform(x.numpy())).min(1).values.square()
    torch.testing.assert_close(distance, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", [*CASES, Case(50, 1000, 4), Case(300, 10, 7, shift=1e5)], ids=str)
def test_matches_float64(kernel, case, dtype):
    x, centers = case.rows(dtype)
    index, distance = nearest_center(x, centers)
    all_ = (x.double()[:, None] - centers.double()).square().sum(2)
    best = all_.min(1).values
    own = all_.gather(1, index[:, None])[:, 0]
    # the reference ranks by the product form and may take the second nearest of two that are equal to its rounding
    slack = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype] * (1 if kernel != "reference" else 100)
    torch.testing.assert_close(own, best, rtol=slack, atol=slack)
    torch.testing.assert_close(distance.double(), own, rtol=4e-6 if dtype == torch.float32 else 1e-13, atol=1e-12)
    assert (index.dtype, distance.dtype) == (torch.int64, dtype) and (index == all_.argmin(1)).double().mean() > 0.99
    for view in (x.T.contiguous().T, torch.stack([x, x + 1], -1)[..., 0]):
        again = nearest_center(view, centers.T.contiguous().T)
        if kernel != "reference":  # matrix products of PyTorch may round otherwise
            assert torch.equal(again[0], index) and torch.equal(again[1], distance)


@pytest.mark.parametrize("k", [2, 16, 17, 100])
def test_the_lowest_of_equals(kernel, k):
    """Every center twice and the row half way: small integers, so that distances are exact in every form."""
    lattice = torch.arange(k, dtype=torch.float32)[:, None] * 2
    centers = torch.cat([lattice, lattice])
    index, distance = nearest_center(torch.cat([lattice, lattice + 1]), centers)
    assert index.tolist() == [*range(k), *range(k)]
    assert distance.tolist() == [0.0] * k + [1.0] * k


def test_rows_that_are_not_finite(kernel):
    x, centers = Case(70, 20, 3).rows()
    want = nearest_center(x, centers)
    x[3, 1], x[40, 0], x[41, 0] = math.nan, math.inf, 1e30
    index, distance = nearest_center(x, centers)
    assert index[[3, 40, 41]].tolist() == [0, 0, 0]
    assert distance[3].isnan() and distance[40] == math.inf and distance[41] == math.inf
    keep = torch.ones(70, dtype=torch.bool).index_fill(0, torch.tensor([3, 40, 41]), False)
    assert torch.equal(index[keep], want[0][keep]) and torch.equal(distance[keep], want[1][keep])


def test_no_gradient_but_an_error(kernel):
    x = torch.ones(3, 2, requires_grad=True)
    _, distance = nearest_center(x, torch.zeros(2, 2))
    if kernel == "reference":
        pytest.skip("plain PyTorch differentiates itself")
    with pytest.raises(RuntimeError, match="nearest_center: .*backend"):
        distance.sum().backward()
