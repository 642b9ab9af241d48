"""The operators over rows and centers in use: errors, empty batches, types, torch's contracts, threads, memory."""

import subprocess
import sys

import pytest
import torch
from center_cases import Case, value_and_pullback

from deepclust_accel import ops
from deepclust_accel.ops import center_sums, mixture_posterior, nearest_center, soft_assign

ONE = torch.ones(4, 3)
native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["soft_assign"]["cpu"])


def posterior_of(z, centers):
    """mixture_posterior with the centers in three of its four arguments."""
    return mixture_posterior(z, centers.sum(1) / 10, centers, centers.sin())


def student(z, centers):
    return soft_assign(z, centers, dof=3.5)


DIFFERENTIABLE = pytest.mark.parametrize("call", [soft_assign, student, posterior_of], ids=lambda f: f.__name__)


@pytest.mark.parametrize(
    "call, names",
    [(soft_assign, ("z", "centers")), (nearest_center, ("x", "centers"))],
    ids=["soft_assign", "nearest_center"],
)
def test_bad_arguments(call, names):
    a, b = names
    for arguments, kind, message in (
        ((ONE, [1.0]), TypeError, f"{b}: expected a tensor, got list"),
        ((ONE.int(), ONE), TypeError, f"dtype of {a}: expected a floating type, got torch.int32"),
        ((ONE, ONE.double()), ValueError, f"dtypes of {a} and {b}: expected one dtype"),
        ((ONE, ONE[:, :2]), ValueError, f"columns of {a} and {b}: expected the same D, got 3 and 2"),
        ((ONE[0], ONE), ValueError, rf"shape of {a}: expected two dimensions, \(N, D\), got \(3,\)"),
        ((ONE, ONE[:0]), ValueError, f"shape of {b}: expected K and D of at least 1"),
        ((ONE[:, :0], ONE[:, :0]), ValueError, f"shape of {b}: expected K and D of at least 1"),
        ((ONE, ONE.to("meta")), ValueError, f"devices of {a} and {b}: expected one device"),
    ):
        with pytest.raises(kind, match=f"{call.__name__}: {message}.*; "):
            call(*arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((ONE, ONE[0], ONE, ONE), r"shape of log_weights: expected \(4,\), one per mean, got \(3,\)"),
        (
            (ONE, ONE[:, 0], ONE, ONE[:2]),
            r"shapes of mean and log_variance: expected the same \(K, D\), got \(4, 3\) and",
        ),
        ((ONE, ONE[:, 0], ONE[:, :2], ONE), "columns of z and mean: expected the same D, got 3 and 2"),
        ((ONE, ONE[:, 0].double(), ONE, ONE), "dtypes of z, log_weights, mean and log_variance: expected one dtype"),
    ],
)
def test_bad_arguments_of_a_mixture(arguments, message):
    with pytest.raises(ValueError, match="mixture_posterior: " + message + ".*; "):
        mixture_posterior(*arguments)


def test_empty_in_empty_out(kernel):
    _, centers = Case(1, 5, 3).rows()
    for call in (soft_assign, student, posterior_of):
        value, g_z, g_centers = value_and_pullback(call, (centers[:0], centers), torch.zeros(0, 5))
        assert value.shape == (0, 5) and g_z.shape == (0, 3) and not g_centers.any() and g_centers.shape == (5, 3)
    index, distance = nearest_center(centers[:0], centers)
    assert index.shape == distance.shape == (0,)
    sums, counts = center_sums(centers[:0], index, 4)
    assert sums.shape == (4, 3) and not sums.any() and counts.tolist() == [0] * 4


@DIFFERENTIABLE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_compute_in_float32(call, dtype):
    case = Case(65, 10, 7)
    inputs, upstream = case.rows(dtype), case.upstream()
    wide = [x.float() for x in inputs]
    if call is posterior_of:  # its inner arithmetic on centers is not the operator's
        call, inputs, wide = mixture_posterior, case.mixture(dtype), [x.float() for x in case.mixture(dtype)]
    got, want = value_and_pullback(call, inputs, upstream), value_and_pullback(call, wide, upstream)
    assert torch.equal(got[0], want[0]) and got[0].dtype == torch.float32
    assert all(g.dtype == dtype and torch.equal(g, w.to(dtype)) for g, w in zip(got[1:], want[1:], strict=True))
    assert nearest_center(*case.rows(dtype))[1].dtype == torch.float32


@DIFFERENTIABLE
@pytest.mark.parametrize("wanted", range(4))
def test_only_the_gradients_that_are_needed(call, wanted):
    case = Case(300, 12, 5)
    inputs, upstream = case.rows(), case.upstream()
    full = value_and_pullback(call, inputs, upstream)[1:]
    leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(inputs)]
    value = call(*leaves)
    assert value.requires_grad == bool(wanted)
    if wanted:
        value.backward(upstream)
    for i, (leaf, want) in enumerate(zip(leaves, full, strict=True)):
        assert leaf.grad is None if not wanted >> i & 1 else torch.equal(leaf.grad, want)


@DIFFERENTIABLE
def test_an_expanded_gradient_from_above(call):
    leaves = [x.requires_grad_() for x in Case(70, 12, 5).rows(torch.float64)]
    got = torch.autograd.grad(call(*leaves)[:, 3].sum(), leaves)
    upstream = torch.zeros(70, 12, dtype=torch.float64).index_fill_(1, torch.tensor([3]), 1)
    want = value_and_pullback(call, leaves, upstream)[1:]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    whole = torch.autograd.grad(call(*leaves).sum(), leaves)  # of rows that sum to one, nothing for soft_assign
    assert call is posterior_of or max(g.abs().max().item() for g in whole) < 1e-13


@DIFFERENTIABLE
def test_gradcheck(call):
    leaves = [x.requires_grad_() for x in Case(9, 4, 3).rows(torch.float64)]
    assert torch.autograd.gradcheck(call, leaves)
    first = torch.autograd.grad(call(*leaves).square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"ops\.backend\('reference'\)"):
        sum(g.square().sum() for g in first).backward()
    with ops.backend("reference"):
        assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(dtype):
    case, namespace = Case(37, 5, 3), torch.ops.dcaccel
    z, centers = case.rows(dtype)
    leaves = [x.clone().requires_grad_() for x in (z, centers)]
    g, q = case.upstream(dtype), namespace.soft_assign.default(z, centers, 2.0)
    mixture = case.mixture(dtype)
    log_r = namespace.mixture_posterior.default(*mixture)
    torch.library.opcheck(namespace.soft_assign.default, (*leaves, 1.0))
    torch.library.opcheck(namespace.mixture_posterior.default, tuple(x.clone().requires_grad_() for x in mixture))
    torch.library.opcheck(namespace.nearest_center.default, (z, centers))
    torch.library.opcheck(namespace.center_sums.default, (z, torch.arange(37) % 5, 5))
    for needs in ((True, True), (False, True), (True, False)):
        torch.library.opcheck(namespace.soft_assign_bwd.default, (z, centers, q, g, 2.0, *needs))
        torch.library.opcheck(namespace.mixture_posterior_bwd.default, (*mixture, log_r, g, *needs))


def test_compiles_into_one_graph():
    def step(z, centers):
        index, distance = nearest_center(z.detach(), centers.detach())
        sums, counts = center_sums(z.detach(), index, 5)
        losses = soft_assign(2 * z, centers).square().sum(1) + posterior_of(z, centers)[:, 0] + distance
        return losses + sums.sum() + counts.sum()

    inputs, upstream = Case(70, 5, 3).rows(torch.float64), torch.linspace(-1, 1, 70, dtype=torch.float64)
    compiled = torch.compile(step, fullgraph=True)
    pairs = zip(value_and_pullback(compiled, inputs, upstream), value_and_pullback(step, inputs, upstream), strict=True)
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_autocast_computes_in_float32():
    z, centers = Case(65, 5, 3).rows()
    index = torch.arange(65) % 5
    low = z.bfloat16()
    want = [
        soft_assign(low.float(), centers),
        *nearest_center(low.float(), centers),
        *center_sums(low.float(), index, 5),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        got = [soft_assign(low, centers), *nearest_center(low, centers), *center_sums(low, index, 5)]
        direct = torch.ops.dcaccel.soft_assign(low, centers, 1.0)
    assert all(torch.equal(a, b) for a, b in zip((*got, direct), (*want, want[0]), strict=True))


@native
@pytest.mark.parametrize("n, k", [(64, 10), (700, 10), (5000, 100)])
def test_same_bits_at_any_number_of_threads(n, k):
    case = Case(n, k, 10)
    inputs, upstream = case.rows(), case.upstream()

    def everything():
        index, distance = nearest_center(*inputs)
        both = (*value_and_pullback(soft_assign, inputs, upstream), *value_and_pullback(posterior_of, inputs, upstream))
        return (*both, index, distance, *center_sums(inputs[0], index, k))

    want = everything()
    for threads in (2, 3, 2):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(everything(), want, strict=True))


MEMORY = """
import resource, torch
from deepclust_accel.ops import center_sums, mixture_posterior, nearest_center, soft_assign
n, k, d = 200_000, 100, 10
z, c, g = torch.randn(n, d, requires_grad=True), torch.randn(k, d, requires_grad=True), torch.ones(n, k)
run = {
    "soft_assign": lambda: soft_assign(z, c).backward(g),
    "mixture_posterior": lambda: mixture_posterior(z, c[:, 0], c, c).backward(g),
    "nearest_center": lambda: center_sums(z.detach(), nearest_center(z.detach(), c.detach())[0], k),
}[NAME]
small = soft_assign(z[:300], c).sum().backward()
z.grad = c.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@native
@pytest.mark.parametrize("name, limit", [("soft_assign", 110), ("mixture_posterior", 110), ("nearest_center", 20)])
def test_memory_is_the_result(name, limit):
    """A result of 200,000 x 100 is 76 MiB, the gradient of the rows 8; nothing else of that size is ever held."""
    code = MEMORY.replace("NAME", repr(name))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) < limit
