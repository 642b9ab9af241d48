"""What every operator gets from `define`: choice of backend, report, record, environment, life without a library."""

import os
import subprocess
import sys

import pytest
import torch

from deepclust_accel import ops
from deepclust_accel.ops._define import define

X = torch.rand(20, 3)
native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["wasserstein_similarity"]["cpu"])


def run(code, **environment):
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.stdout.strip() + done.stderr.strip().splitlines()[-1] if done.returncode else done.stdout.strip()


def test_backend_chooses_and_restores():
    with ops.backend("reference"):
        assert ops.kernel_for("wasserstein_similarity", "cpu")[0] == "reference"
        with ops.backend("auto"):
            inner = ops.kernel_for("wasserstein_similarity", "cpu")[0]
        assert ops.kernel_for("wasserstein_similarity", "cpu")[0] == "reference"
    assert inner == ops.kernel_for("wasserstein_similarity", "cpu")[0]
    with pytest.raises(ValueError, match="backend: expected one of auto, .*, got 'fast'"), ops.backend("fast"):
        pass


def test_report_names_the_reason_of_each_gap():
    entry = ops.report()["wasserstein_similarity"]
    assert entry["reference"] == "available"
    assert entry["cuda"] == "available" or "cuda" in entry["cuda"]
    assert entry["runs"]["cpu"] == ("native" if entry["cpu"] == "available" else "reference")
    assert all(entry["why"].values()) and "wasserstein_similarity_bwd" not in ops.report()


@native
def test_record_counts_calls():
    with ops.record() as used:
        ops.wasserstein_similarity(X, X, X)
        with ops.record() as inner:
            ops.wasserstein_similarity(X, X, X)
    ops.wasserstein_similarity(X, X, X)
    entry = used["wasserstein_similarity"]
    assert (entry["kernel"], entry["device"], entry["calls"]) == ("native", "cpu", 2)
    assert ops.instruction_set() in entry["why"] and inner["wasserstein_similarity"]["calls"] == 1


@native
def test_instruction_set_can_be_lowered_and_no_other():
    assert ops.instruction_sets()[0] == "baseline" and ops.instruction_set() in ops.instruction_sets()
    with pytest.raises(ValueError, match="instruction set: expected one of baseline.*, got 'sse9'"):
        ops.set_instruction_set("sse9")
    assert {"compiler", "flags", "commit", "compiled"} <= set(ops.build_info())


def test_environment_sets_what_applies_outside():
    code = "from deepclust_accel import ops; print(ops.report()['wasserstein_similarity']['runs']['cpu'])"
    assert run(code, DCACCEL_BACKEND="reference") == "reference"
    assert "DCACCEL_BACKEND: expected one of auto, native, reference, got 'x'" in run(code, DCACCEL_BACKEND="x")


WITHOUT_LIBRARY = """
import sys; sys.modules["deepclust_accel._native_cpu"] = None
import torch
from deepclust_accel import ops
x = torch.rand(20, 3, dtype=torch.float64).requires_grad_()
loss = lambda: ops.wasserstein_similarity(x, x.sin() + 1, x.softmax(1))
here, = torch.autograd.grad(loss(), x)
with ops.backend("reference"):
    there, = torch.autograd.grad(loss(), x)
runs = ops.report()["wasserstein_similarity"]["runs"]["cpu"]
print((here - there).norm().item() < 1e-12 * there.norm().item(), runs, ops.instruction_sets())
with ops.backend("native"):
    loss()
"""


def test_without_the_library_the_reference_runs_and_says_so():
    out = run(WITHOUT_LIBRARY)
    assert out.startswith("True reference []")
    assert "wasserstein_similarity: expected a native kernel, got none: " in out


LOSSES = """
import re, sys
import torch
if sys.argv[1:] == ["python"]:
    sys.modules["deepclust_accel._native_autograd_" + re.sub(r"\\W", "_", torch.__version__.partition("+")[0])] = None
from deepclust_accel import ops
x = [torch.rand(300, 3, generator=torch.Generator().manual_seed(i)).requires_grad_(i != 1) for i in range(3)]
for loss in (ops.wasserstein_similarity(*x), ops.t_similarity(x[2], x[1], dof_z=6.0)):
    print(loss.item(), *[g if g is None else g.tolist() for g in torch.autograd.grad(2 * loss, x[::2], allow_unused=True)])
print(type(loss.grad_fn).__name__)
"""


@native
def test_autograd_in_cpp_gives_the_bits_of_autograd_in_python():
    if ops.build_info()["autograd"] != "C++":
        pytest.skip(ops.build_info()["autograd"])
    in_cpp, in_python = (
        subprocess.run(
            [sys.executable, "-c", LOSSES, way], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for way in ("cpp", "python")
    )
    assert in_cpp[:2] == in_python[:2] and in_cpp[0] != in_cpp[1]
    assert in_cpp[2] == "CppFunction" and in_python[2] == "t_similarity.defaultBackward"


def test_an_operator_without_derivative_raises_instead_of_guessing():
    double = define("test_double", "(Tensor x) -> Tensor", reference=lambda x: x * 2, fake=torch.empty_like)
    x = torch.ones(3, requires_grad=True)
    assert torch.equal(double(x), 2 * torch.ones(3))
    with pytest.raises(RuntimeError, match=r"test_double: .*ops\.backend\('reference'\)"):
        double(x).sum().backward()
    with ops.backend("reference"):
        double(x).sum().backward()
    assert torch.equal(x.grad, 2 * torch.ones(3))
    ops._define._operators.remove("test_double")


native = pytest.mark.skipif(not ops.instruction_sets(), reason="no native kernels")


@native
@pytest.mark.parametrize("name", ["wasserstein_similarity", "t_similarity"])
def test_direct_calls_of_torch_ops_do_not_read_what_is_not_there(name):
    x, bad = torch.ones(70, 3), torch.ones(4, 3)
    operator, backward = getattr(torch.ops.dcaccel, name), getattr(torch.ops.dcaccel, f"{name}_bwd")
    options = (False,) if name == "wasserstein_similarity" else (6.0, 1.0, False, True)
    inputs = (x, x, x) if name == "wasserstein_similarity" else (x, x)
    for wrong in ((bad, *inputs[1:]), (*inputs[:-1], bad), (*inputs[:-1], x.double()), (x.half(),) * len(inputs)):
        with pytest.raises(RuntimeError, match="as ops.<name> passes them"):
            operator(*wrong, *options)
    state, grad, needs = operator(*inputs, *options)[1], torch.ones(()), (True,) * len(inputs)
    for wrong in ((torch.zeros(0), grad), (state.double(), grad), (state, grad.double()), (state[1:], grad)):
        with pytest.raises(RuntimeError, match="as ops.<name> passes them"):
            backward(*inputs, *wrong, *options, *needs)


@native
def test_torch_func_is_sent_to_the_reference():
    sigma, gamma = torch.ones(9, 2), torch.ones(9, 3) / 3
    mu = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))

    def loss(mu):
        return ops.wasserstein_similarity(mu, sigma, gamma)

    with pytest.raises(RuntimeError, match=r"got torch.func on a compiled kernel; wrap the call in ops.backend"):
        torch.func.grad(loss)(mu)
    leaf = mu.clone().requires_grad_()
    loss(leaf).backward()
    with ops.backend("reference"):
        torch.testing.assert_close(torch.func.grad(loss)(mu), leaf.grad)
