"""wasserstein_similarity in use: errors, torch's contracts, threads, memory, derivatives of derivatives."""

import subprocess
import sys

import pytest
import torch
from wasserstein_cases import Case, dense

from deepclust_accel import ops
from deepclust_accel.ops import wasserstein_similarity
from deepclust_accel.testing.ops import value_and_gradients

ONE = torch.ones(4, 3)
native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["wasserstein_similarity"]["cpu"])


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ((ONE, ONE, [1.0]), TypeError, "gamma: expected a tensor, got list"),
        ((ONE.int(), ONE, ONE), TypeError, "dtype of mu: expected a floating type, got torch.int32"),
        ((ONE, ONE.double(), ONE), ValueError, "dtypes of mu, sigma and gamma: expected one dtype"),
        ((ONE, ONE.half(), ONE), ValueError, "dtypes of mu, sigma and gamma: expected one dtype"),
        ((ONE, ONE[:, :2], ONE), ValueError, r"shapes of mu and sigma: expected the same \(N, Z\), got \(4, 3\) and"),
        ((ONE, ONE, ONE[:3]), ValueError, "rows of gamma: expected 4, as in mu, got 3"),
        ((ONE, ONE, ONE[0]), ValueError, "shape of gamma: expected two dimensions"),
        ((ONE[:0], ONE[:0], ONE[:0]), ValueError, "size of mu: expected at least one row and column"),
        ((ONE, ONE, ONE[:, :0]), ValueError, "size of gamma: expected at least one row and column"),
        ((ONE, ONE, ONE.to("meta")), ValueError, "devices of mu, sigma and gamma: expected one device"),
    ],
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match="wasserstein_similarity: " + message + ".*; "):
        wasserstein_similarity(*arguments)


def test_bad_option():
    with pytest.raises(ValueError, match="normalization: expected 'pairs' or 'rows', got 'mean'; "):
        wasserstein_similarity(ONE, ONE, ONE, normalization="mean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(dtype):
    leaves = [x.clone().requires_grad_() for x in Case(37, 5, 3).inputs(dtype)]
    torch.library.opcheck(torch.ops.dcaccel.wasserstein_similarity.default, (*leaves, False))
    inputs = [x.detach() for x in leaves]
    _, state = torch.ops.dcaccel.wasserstein_similarity.default(*inputs, True)
    for needs in ((True, True, True), (False, True, False), (True, False, True), (False, False, True)):
        arguments = (*inputs, state, torch.ones((), dtype=dtype), True, *needs)
        torch.library.opcheck(torch.ops.dcaccel.wasserstein_similarity_bwd.default, arguments)


def test_compiles_into_one_graph():
    def step(mu, sigma, gamma):
        return 2 * wasserstein_similarity(mu * 2, sigma, gamma, normalization="rows") + mu.sum()

    inputs = Case(70, 5, 3).inputs(torch.float64)
    compiled = torch.compile(step, fullgraph=True)
    for got, want in zip(value_and_gradients(compiled, inputs), value_and_gradients(step, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_second_derivatives_need_the_reference():
    leaves = [x.clone().requires_grad_() for x in Case(9, 2, 3).inputs(torch.float64)]
    first = torch.autograd.grad(wasserstein_similarity(*leaves), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"ops\.backend\('reference'\)"):
        sum(g.square().sum() for g in first).backward()
    with ops.backend("reference"):
        assert torch.autograd.gradgradcheck(wasserstein_similarity, leaves)


def test_autocast_computes_in_float32():
    mu, sigma, gamma = Case(65, 3, 4).inputs(torch.float32)
    want = wasserstein_similarity(mu.bfloat16().float(), sigma, gamma)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(wasserstein_similarity(mu.bfloat16(), sigma, gamma), want)
        got = torch.ops.dcaccel.wasserstein_similarity(mu.bfloat16(), sigma, gamma, False)[0]
    assert torch.equal(got, want)


@native
@pytest.mark.parametrize("n", [64, 300, 1500])
def test_same_bits_at_any_number_of_threads(n):
    inputs = Case(n).inputs(torch.float32)
    torch.set_num_threads(1)
    want = value_and_gradients(wasserstein_similarity, inputs)
    for threads in (2, 3, 2):
        torch.set_num_threads(threads)
        got = value_and_gradients(wasserstein_similarity, inputs)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


MEMORY = """
import resource, torch
from deepclust_accel.ops import wasserstein_similarity
n = 65536
mu, sigma, gamma = torch.randn(n, 10), torch.rand(n, 10), torch.rand(n, 10).softmax(1)
for x in (mu, sigma, gamma): x.requires_grad_()
small = [x[:256].detach().requires_grad_() for x in (mu, sigma, gamma)]
wasserstein_similarity(*small).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wasserstein_similarity(mu, sigma, gamma).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@native
def test_memory_is_linear():
    """65,536 rows in 100 MiB, gradients included; one N x N matrix would be 16 GiB."""
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 100


@native
def test_gradients_agree_with_dense_autograd_at_a_size_with_blocks_of_many_tiles():
    inputs = [x[:4200] for x in Case(4200, 2, 2).inputs(torch.float64)]
    with torch.no_grad():
        torch.testing.assert_close(wasserstein_similarity(*inputs), dense(*inputs), rtol=1e-12, atol=0)
