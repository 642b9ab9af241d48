"""t_similarity in use: errors, torch's contracts, threads, memory, derivatives of derivatives."""

import subprocess
import sys

import pytest
import torch
from t_cases import KINDS, Case

from deepclust_accel import ops
from deepclust_accel.ops import t_similarity
from deepclust_accel.testing.ops import value_and_gradients

ONE = torch.ones(4, 3)
native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["t_similarity"]["cpu"])


@pytest.mark.parametrize(
    "arguments, options, kind, message",
    [
        ((ONE, [1.0]), {}, TypeError, "e: expected a tensor, got list"),
        ((ONE.int(), ONE), {}, TypeError, "dtype of z: expected a floating type, got torch.int32"),
        ((ONE, ONE.double()), {}, ValueError, "dtypes of z and e: expected one dtype"),
        ((ONE, ONE[:3]), {}, ValueError, "rows of e: expected 4, as in z, got 3"),
        ((ONE, ONE[0]), {}, ValueError, "shape of e: expected two dimensions"),
        ((ONE[:0], ONE[:0]), {}, ValueError, "size of z: expected at least one row and column"),
        ((ONE, ONE), {"dof_z": 0.0}, ValueError, "dof_z: expected a positive number, got 0.0"),
        ((ONE, ONE), {"dof_e": float("nan")}, ValueError, "dof_e: expected a positive number, got nan"),
        ((ONE, ONE), {"normalization": "pairs"}, ValueError, "normalization: expected 'global' or 'rows', got 'pairs'"),
        ((ONE[:1], ONE[:1]), {"include_diagonal": False}, ValueError, "rows: expected at least two without"),
    ],
)
def test_bad_arguments(arguments, options, kind, message):
    with pytest.raises(kind, match="t_similarity: " + message + ".*; "):
        t_similarity(*arguments, **{"dof_z": 6.0, **options})


@pytest.mark.parametrize("normalization, diagonal", KINDS)
def test_opcheck(normalization, diagonal):
    case = Case(37, 5, 3, normalization=normalization, diagonal=diagonal)
    leaves = [x.requires_grad_() for x in case.inputs(torch.float64)]
    options = (case.dof_z, case.dof_e, normalization == "rows", diagonal)
    torch.library.opcheck(torch.ops.dcaccel.t_similarity.default, (*leaves, *options))
    inputs = [x.detach() for x in leaves]
    _, state = torch.ops.dcaccel.t_similarity.default(*inputs, *options)
    for needs in ((True, True), (False, True), (True, False)):
        arguments = (*inputs, state, torch.ones((), dtype=torch.float64), *options, *needs)
        torch.library.opcheck(torch.ops.dcaccel.t_similarity_bwd.default, arguments)


def test_compiles_into_one_graph():
    def step(z, e):
        return 2 * t_similarity(z * 2, e, dof_z=10.0) + z.sum()

    inputs = Case(70, 5, 3).inputs(torch.float64)
    compiled = torch.compile(step, fullgraph=True)
    for got, want in zip(value_and_gradients(compiled, inputs), value_and_gradients(step, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_second_derivatives_need_the_reference():
    case = Case(9, 2, 3)
    leaves = [x.requires_grad_() for x in case.inputs(torch.float64)]
    first = torch.autograd.grad(case.call(*leaves), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"ops\.backend\('reference'\)"):
        sum(g.square().sum() for g in first).backward()
    with ops.backend("reference"):
        assert torch.autograd.gradgradcheck(case.call, leaves)


def test_autocast_computes_in_float32():
    case = Case(65, 3, 4)
    z, e = case.inputs(torch.float32)
    want = case.call(z.bfloat16().float(), e)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(case.call(z.bfloat16(), e), want)


@native
@pytest.mark.parametrize("normalization, diagonal", KINDS)
@pytest.mark.parametrize("n", [64, 300, 1500])
def test_same_bits_at_any_number_of_threads(n, normalization, diagonal):
    case = Case(n, normalization=normalization, diagonal=diagonal)
    inputs = case.inputs(torch.float32)
    torch.set_num_threads(1)
    want = value_and_gradients(case.call, inputs)
    for threads in (2, 3, 2):
        torch.set_num_threads(threads)
        got = value_and_gradients(case.call, inputs)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


MEMORY = """
import resource, torch
from deepclust_accel.ops import t_similarity
n = 65536
z, e = torch.randn(n, 50).requires_grad_(), torch.randn(n, 50).requires_grad_()
t_similarity(z[:256], e[:256], dof_z=100.0).backward()
z.grad = e.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
t_similarity(z, e, dof_z=100.0).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@native
@pytest.mark.slow
def test_memory_is_linear():
    """65,536 rows of 50 + 50 values in 150 MiB, gradients included; one N x N matrix would be 16 GiB."""
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 150
