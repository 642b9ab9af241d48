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
from cuda_running import CSRC, HERE, ROOT, built, nvcc, object_of

from deepclust_accel.ops import _native


def library():
    """The Python module of the CUDA library, with every binding for tensors of the CPU, on emulated kernels."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is a requirement of the build")
    torch_ = Path(torch.__file__).parent
    includes = [torch_ / "include", sysconfig.get_paths()["include"], pybind11.get_include()]
    flags = ["-w", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DDCACCEL_DISPATCH_KEY=CPU"]
    flags += [f"-DDCACCEL_CUDA_MODULE={MODULE}", *(part for path in includes for part in ("-isystem", str(path)))]
    objects = [object_of(HERE / "emulation" / "emulation.cpp", "library")]
    objects += [object_of(CSRC / "common" / "cuda_module.cpp", "library", flags=["-O0", *flags])]
    for kernel in KERNELS:
        folder = kernel.source.parent
        objects += [object_of(kernel.source, "library", [folder])]
        objects += [object_of(folder / "cuda_binding.cpp", "library", [folder], ["-O0", *flags])]
    link = [f"-L{torch_ / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-lpthread"]
    name = f"{MODULE}.so"
    return built(name, lambda place: [["g++", "-shared", *objects, *link, "-o", place / name]], [])


MODULE = "emulated_kernels_library"
KERNEL_TESTS = "baseline and not (eager and float16) and not layouts_of_results"


@pytest.mark.cuda
def test_the_operators_own_tests_pass_on_emulated_kernels():
    """In one process of their own, where starting counts: the emulated kernels take the place of those for the CPU.

    Left out: half types beside eager PyTorch, which on the CPU adds a bias before it rounds, and on CUDA after; that
    layouts change no bit, which holds for the CPU, where all are computed in one.
    """
    environment = {**os.environ, "EMULATED_KERNELS": str(library())}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT), environment.get("PYTHONPATH", "")])
    tests = [sorted((ROOT / "tests" / "ops").glob(f"test_{kernel.name}*.py")) for kernel in KERNELS]
    assert all(tests)
    tests.append([ROOT / "tests" / "ops" / "test_shards.py"])
    command = [sys.executable, "-m", "pytest", "-p", "emulated_kernels", "-k", KERNEL_TESTS, *sum(tests, [])]
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
