"""The vector exp and log of csrc/common/exp_log.h, seen through operators that apply them to numbers of our choice."""

import math

import pytest
import torch

from deepclust_accel import ops

native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["soft_assign"]["cpu"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def level(request):
    if request.param not in ops.instruction_sets():
        pytest.skip(f"{request.param} does not run here")
    before = ops.instruction_set()
    ops.set_instruction_set(request.param)
    yield request.param
    ops.set_instruction_set(before)


def exp(x):
    """Rows z = 0 and components at -1 and 0: with g = (0, 1) the gradient of z is exp(log r) of the first component."""
    n, zero = len(x), x.new_zeros(2, 1)
    log_r, g = torch.stack([x, x.new_zeros(n)], 1), x.new_tensor([0.0, 1.0]).expand(n, 2)
    mean = x.new_tensor([[-1.0], [0.0]])
    run = torch.ops.dcaccel.mixture_posterior_bwd.default
    return run(x.new_zeros(n, 1), zero[:, 0], mean, zero, log_r, g, True, False)[0][:, 0]


def units(got, want):
    """Largest error in units in the last place of the result."""
    want = want.double() if got.dtype == torch.float32 else want
    ulp = torch.exp2(want.abs().log2().floor()) * torch.finfo(got.dtype).eps
    return ((got.double() - want) / ulp).abs().max().item()


@native
@DTYPES
def test_exp(level, dtype):
    low, high = (-86.0, 88.0) if dtype == torch.float32 else (-707.0, 709.0)
    g = torch.Generator().manual_seed(0)
    wide = torch.rand(200_000, generator=g, dtype=torch.float64) * (high - low) + low
    x = torch.cat([wide, torch.linspace(-1, 1, 100_001, dtype=torch.float64), torch.tensor([low, high, 0.0])]).to(dtype)
    exact = torch.tensor([math.exp(v) for v in x.tolist()], dtype=torch.float64)  # libm's, within half a unit or so
    assert units(exp(x), exact) <= (1.5 if dtype == torch.float32 else 2.0)
    assert exp(x)[-1] == 1
    special = torch.tensor([-math.inf, 2 * low, high + 1, math.inf, math.nan], dtype=dtype)
    assert exp(special).tolist()[:4] == [0, 0, math.inf, math.inf] and exp(special)[4].isnan()


@native
@DTYPES
def test_log(level, dtype):
    """K equal components: log r = -log K, with the sum of K ones exact."""
    for k in (*range(1, 300), 1000, 4097):
        zero = torch.zeros(k, 1, dtype=dtype)
        log_r = torch.ops.dcaccel.mixture_posterior.default(zero[:1], zero[:, 0], zero, zero)
        assert units(log_r, torch.full((1, k), -math.log(k), dtype=torch.float64)) <= 2 if k > 1 else not log_r.any()


@native
@DTYPES
def test_log1p(level, dtype):
    """One row at 0, centers at 0 and c: q_1 / q_0 = (1 + c^2 / v)^(-(v + 1) / 2), v = 3: the logarithm, twice."""
    c = torch.logspace(-7, 7, 2001, dtype=torch.float64).to(dtype)
    x = c.double().square() / 3
    for at in (slice(0, 1000), slice(1000, 2001)):
        centers = torch.cat([c.new_zeros(1), c[at]])[:, None]
        q = torch.ops.dcaccel.soft_assign.default(c.new_zeros(1, 1), centers, 3.0)[0]
        got, want = q[1:] / q[0], (1 + x[at]) ** -2
        # the exponential turns an error of the logarithm of e units into e |log q| relative
        slack = (8 + 8 * torch.log1p(x[at])) * torch.finfo(dtype).eps
        seen = want > torch.finfo(dtype).tiny
        assert (((got.double() - want).abs() / want)[seen] <= slack[seen]).all()
