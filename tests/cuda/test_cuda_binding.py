"""The torch side of the CUDA kernels: the binding run on emulated kernels, and which library is opened."""

import re
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from cuda_kernels import KERNELS
from cuda_running import CSRC, EMULATED, HERE, built, nvcc

from deepclust_accel.ops import _native


def binding(kernel):
    """A Python module with the kernel's own binding, for tensors of the CPU, on the emulated cuda.cu."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is a requirement of the build")
    includes = [Path(torch.__file__).parent / "include", sysconfig.get_paths()["include"], pybind11.get_include()]
    sources = [kernel.source.parent / "cuda_binding.cpp", CSRC / "common" / "cuda_module.cpp"]

    def steps(place):
        flags = ["-O1", "-w", "-fPIC", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
        flags += ["-DDCACCEL_DISPATCH_KEY=CPU", "-DDCACCEL_CUDA_MODULE=emulated_kernels"]
        flags += [part for path in includes for part in ("-isystem", str(path))]
        cuda = ["-x", "c++", kernel.source, *sources, HERE / "emulation" / "fiber_switch.cpp"]
        link = ["-shared", f"-L{includes[0].parent / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-lpthread"]
        return [[*EMULATED, *flags, *cuda, *link, "-o", place / "emulated_kernels.so"]]

    return built("emulated_kernels.so", steps, [kernel.source.parent, CSRC / "common", HERE / "emulation"])


# In a process of its own: the emulated kernels take the place of those for the CPU.
CHECK = """
import sys
sys.modules["deepclust_accel._native_cpu"] = None
import math, torch
from deepclust_accel import ops
sys.path.insert(0, {folder!r})
import emulated_kernels
sys.path.insert(0, {tables!r})
from wasserstein_cases import Case
from deepclust_accel.testing.ops import check_op, value_and_gradients
call = ops.wasserstein_similarity
with ops.backend("native"):
    for case in (Case(70, 3, 5), Case(1, 1, 1), Case(130, 11, 13)):
        for dtype in (torch.float32, torch.float64):
            check_op(call, case.inputs(dtype))
    inputs = Case(70, 3, 5).inputs(torch.float64)
    for wanted in range(1, 8):
        leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(inputs)]
        (call(*leaves, normalization="rows") * 3).backward()
        full = value_and_gradients(lambda *x: call(*x, normalization="rows"), inputs)[1:]
        for leaf, want in zip(leaves, full):
            assert leaf.grad is None or torch.allclose(leaf.grad, 3 * want, rtol=1e-12, atol=0)
    few = Case(37, 5, 3).inputs(torch.float64)  # fills its state; opcheck compares all of it
    torch.library.opcheck(torch.ops.dcaccel.wasserstein_similarity.default, (*few, False))
    for bad in (float("nan"), float("inf"), -float("inf")):
        for i in range(3):
            spoilt = [x.clone() for x in inputs]
            spoilt[i][41, 2] = bad
            assert not call(*spoilt).isfinite(), (bad, i)
    far = torch.tensor([[0.0], [1e30], [-1e30]])
    loss, g_mu, *_ = value_and_gradients(call, (far, torch.ones(3, 1), torch.eye(3)))
    assert abs(loss.item() - (math.log(math.e + 2) - 1) / 3) < 1e-6 and not g_mu.any(), loss
print("ran on", ops.report()["wasserstein_similarity"]["runs"]["cpu"])
"""


@pytest.mark.cuda
def test_the_binding_on_emulated_kernels():
    module = binding(next(k for k in KERNELS if k.name == "wasserstein_similarity"))
    code = CHECK.format(folder=str(module.parent), tables=str(HERE.parent / "ops"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ran on native\n"), done.stderr


@pytest.mark.parametrize(
    "version, libraries, said",
    [
        (None, ["13"], r"torch.version.cuda is None\); install a CUDA build"),
        ("13.0", [], r"needs a library for cuda 13, there is none; install with DCACCEL_CUDA=1 and nvcc 13"),
        ("12.8", ["13"], r"needs a library for cuda 12, there is only for CUDA 13; .* or torch for the other one"),
        ("13.2", ["12", "13"], r"cannot open _native_cuda13"),
    ],
)
def test_a_library_for_another_cuda_is_not_opened_and_doctor_says_why(version, libraries, said, monkeypatch, tmp_path):
    for major in libraries:
        (tmp_path / f"_native_cuda{major}.x.so").write_bytes(b"not a library")
    monkeypatch.setattr(_native, "_PACKAGE", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setitem(sys.modules, "deepclust_accel._native_cuda13", None)
    library, reason = _native._open_cuda()
    assert library is None
    assert re.search(said, reason), reason


@pytest.mark.cuda
@pytest.mark.skipif(not nvcc(), reason="nvcc is not on PATH; nothing can be compiled for CUDA")
def test_setup_knows_the_toolkit_and_leaves_cuda_out_unless_asked(monkeypatch):
    asked = []
    monkeypatch.setattr("setuptools.setup", lambda **options: asked.append(options["ext_modules"]))
    for value, count in (("1", 2), ("0", 1)):
        monkeypatch.setenv("DCACCEL_CUDA", value)
        runpy.run_path(str(HERE.parent.parent / "setup.py"))
        assert len(asked[-1]) == count
    assert asked[0][1].name.startswith("deepclust_accel._native_cuda") and asked[0][1].name[-1].isdigit()
