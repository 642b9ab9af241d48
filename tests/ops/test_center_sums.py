"""center_sums: numpy, additivity, bits, and indices that name nothing."""

import numpy as np
import pytest
import torch
from center_cases import Case

from deepclust_accel.ops import center_sums

HALF = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize(
    "case",
    [Case(1, 1, 1), Case(33, 3, 10), Case(300, 100, 17), Case(5000, 10, 33), Case(65, 10, 3, shift=1e3)],
    ids=str,
)
def test_is_what_numpy_adds_up(kernel, case, dtype):
    x = case.rows()[0].to(dtype)
    index = torch.randint(case.k, (case.n,), generator=torch.Generator().manual_seed(case.n))
    want = np.zeros((case.k, case.d))
    np.add.at(want, index.numpy(), x.double().numpy())
    for rows, place in ((x, index), (x.T.contiguous().T, torch.stack([index, index], 1)[:, 0])):
        sums, counts = center_sums(rows, place, case.k)
        torch.testing.assert_close(sums, torch.tensor(want), rtol=1e-12, atol=1e-11)
        assert counts.tolist() == np.bincount(index, minlength=case.k).tolist()
    assert (sums.dtype, counts.dtype) == (torch.float64, torch.int64)


def test_small_integers_are_exact_and_parts_add_up(kernel):
    """As over ranks: sums of parts, added, are the sums of the whole, bit for bit where nothing is rounded."""
    x = Case(4000, 9, 5).rows()[0].mul(8).round()
    index = torch.arange(4000) % 9
    whole = center_sums(x, index, 10)
    parts = [center_sums(x[at], index[at], 10) for at in (slice(0, 1), slice(1, 1), slice(1, 2999), slice(2999, 4000))]
    for i in range(2):
        assert torch.equal(sum(part[i] for part in parts), whole[i])
    assert not whole[0][9].any() and whole[1][9] == 0  # a cluster without rows


@pytest.mark.parametrize("bad", [-1, 3, 2**40, -(2**63)])
def test_an_index_out_of_range(kernel, bad):
    index = torch.tensor([0, 2, bad, 1])
    with pytest.raises(ValueError, match=rf"center_sums: index: expected 0 <= index < 3 .*, got {bad} at row 2; "):
        center_sums(torch.ones(4, 2), index, 3)


def test_an_index_out_of_range_inside_a_compiled_function():
    compiled = torch.compile(lambda x, index: center_sums(x, index, 3)[0], fullgraph=True)
    assert compiled(torch.ones(2, 2), torch.tensor([0, 2])).tolist() == [[1, 1], [0, 0], [1, 1]]
    with pytest.raises(RuntimeError, match="center_sums: index: expected 0 <= index < 3"):
        compiled(torch.ones(2, 2), torch.tensor([0, 3]))


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ((torch.ones(2, 2), [0, 1], 2), TypeError, "index: expected a tensor of torch.int64, got list"),
        (
            (torch.ones(2, 2), torch.zeros(2), 2),
            TypeError,
            "index: expected a tensor of torch.int64, got torch.float32",
        ),
        ((torch.ones(2, 2), torch.zeros(3).long(), 2), ValueError, r"shape of index: expected \(2,\)"),
        ((torch.ones(2, 2), torch.zeros(2, device="meta").long(), 2), ValueError, "devices of x and index"),
        ((torch.ones(2, 2).int(), torch.zeros(2).long(), 2), TypeError, "dtype of x: expected a floating type"),
        ((torch.ones(2), torch.zeros(2).long(), 2), ValueError, r"shape of x: expected two dimensions, \(N, D\)"),
        ((torch.ones(2, 2), torch.zeros(2).long(), 0), ValueError, "k and D: expected at least 1, got 0 and 2"),
    ],
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match="center_sums: " + message + ".*; "):
        center_sums(*arguments)


def test_no_gradient_but_an_error():
    x = torch.ones(3, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="center_sums: .*backend"):
        center_sums(x, torch.tensor([0, 1, 0]), 2)[0].sum().backward()
