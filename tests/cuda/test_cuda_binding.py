"""The torch side of the CUDA kernels: the binding run on emulated kernels, and which library is opened."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from cuda_kernels import KERNELS
from cuda_running import CSRC, EMULATED, HERE, ROOT, built, nvcc

from deepclust_accel.ops import _native


def binding(kernel):
    """A Python module with the kernel's own binding, for tensors of the CPU, on the emulated cuda.cu."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is a requirement of the build")
    includes = [Path(torch.__file__).parent / "include", sysconfig.get_paths()["include"], pybind11.get_include()]
    sources = [kernel.source.parent / "cuda_binding.cpp", CSRC / "common" / "cuda_module.cpp"]
    name = f"emulated_{kernel.name}"

    def steps(place):
        flags = ["-O2", "-w", "-fPIC", "-fvisibility=hidden", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
        flags += ["-DDCACCEL_DISPATCH_KEY=CPU", f"-DDCACCEL_CUDA_MODULE={name}"]
        flags += [part for path in includes for part in ("-isystem", str(path))]
        cuda = ["-x", "c++", kernel.source, *sources, HERE / "emulation" / "fiber_switch.cpp"]
        link = ["-shared", f"-L{includes[0].parent / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-lpthread"]
        return [[*EMULATED, *flags, *cuda, *link, "-o", place / f"{name}.so"]]

    return built(f"{name}.so", steps, [kernel.source.parent, CSRC / "common", HERE / "emulation"])


KERNEL_TESTS = "baseline and not (eager and float16) and not layouts_of_results"


@pytest.mark.cuda
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_the_operator_s_own_tests_pass_on_emulated_kernels(kernel):
    """In a process of their own: the emulated kernels take the place of those for the CPU.

    Left out: half types beside eager PyTorch, which on the CPU adds a bias before it rounds, and on CUDA after; that
    layouts change no bit, which holds for the CPU, where all are computed in one.
    """
    environment = {**os.environ, "EMULATED_KERNELS": str(binding(kernel))}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT), environment.get("PYTHONPATH", "")])
    tests = sorted((ROOT / "tests" / "ops").glob(f"test_{kernel.name}*.py"))
    command = [sys.executable, "-m", "pytest", "-p", "emulated_kernels", "-k", KERNEL_TESTS, *tests]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


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
    for value, count in (("1", 3), ("0", 2)):
        monkeypatch.setenv("DCACCEL_CUDA", value)
        runpy.run_path(str(HERE.parent.parent / "setup.py"))
        assert len(asked[-1]) == count
    assert asked[0][1].name.startswith("deepclust_accel._native_cuda") and asked[0][1].name[-1].isdigit()
