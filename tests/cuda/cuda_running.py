"""Builds a driver with the kernels of a cuda.cu in one of several ways, and runs it on cases.

A way ("fibers", "asan", "tsan", "ptx") is how a cuda.cu becomes something this machine can run, see README.md.
What is built is kept under build/cuda_tests by a hash of everything it was built from.
"""

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cuda_sass import Shape

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
KEPT = ROOT / "build" / "cuda_tests"

EMULATED = ["g++", "-std=c++20", "-DDC_EMU", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-I", str(HERE / "emulation")]
WAYS = {
    "fibers": ["-O1"],  # half of the time is compiling
    "library": ["-O1", "-fPIC", "-fvisibility=hidden"],
    "asan": ["-O0", "-g1", "-fsanitize=address,undefined,alignment", "-fno-sanitize-recover=undefined"],
    "tsan": ["-O0", "-g1", "-fsanitize=thread", "-DDC_EMU_THREADS"],
}
EMULATED_PTX = "80"  # the architecture whose PTX is run
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0",  # fibers have stacks of their own
    "TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0",
}


@dataclass
class Case:
    """What goes to a driver, and what must come back."""

    name: str
    dtype: type  # np.float32 or np.float64, of all arrays
    numbers: list[int]
    arrays: list[np.ndarray]
    want: list[np.ndarray]  # in float64; tells the shapes, too
    tolerance: float  # relative L2 error of each result
    rival: list[float] = field(default_factory=list)  # errors of another implementation; ours may not be larger


@dataclass(frozen=True)
class Hot:
    """A kernel that does the work, and how its loops are counted (cuda_sass.py)."""

    mangled: str  # part of the name that no other kernel has
    shape: Shape | None  # None: its inner_loop, once around
    share: float  # of the multiply-add peak that it must leave room for on sm_80 and sm_90
    pipe: str = "fp32"
    threads: int = 128
    at: str = ""  # the sizes, where a kernel is counted for more than one

    @property
    def name(self):
        return f"{self.mangled} {self.at}".strip()


@dataclass
class Kernel:
    """A cuda.cu under test; what it is called is the folder in csrc, the driver, and the operator."""

    name: str
    cases: Callable[[], list[Case]]  # all there are; seconds in fibers
    few: Callable[[], list[Case]]  # about ten that see every kernel and border; for what is slow
    small: Callable[[], list[Case]]  # one or two; for ThreadSanitizer, at some ten seconds each
    hot: list[Hot]  # the kernels that have a budget

    @property
    def source(self):
        return CSRC / self.name / "cuda.cu"

    @property
    def driver(self):
        return HERE / "drivers" / f"{self.name}.cpp"


def nvcc():
    """The compiler, or None: those steps are skipped."""
    return shutil.which("nvcc")


def run(command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", **options)


def built(name, steps, sources, folder=None):
    """The file `name` made by `steps(folder)`, a list of commands, unless it is kept from an earlier time."""
    content = hashlib.sha256()
    for path in sorted({p for s in sources for p in ([s] if s.is_file() else s.rglob("*")) if p.is_file()}):
        if path.suffix in (".h", ".cu", ".cpp", ".py"):
            content.update(path.name.encode() + path.read_bytes())
    content.update(repr(steps(Path("."))).encode())
    place = KEPT / f"{name}-{content.hexdigest()[:16]}"
    place.mkdir(parents=True, exist_ok=True)
    with open(place / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes want the same
        if not (place / ".done").exists():
            for command in steps(place):
                done = run(["nice", *command])
                assert done.returncode == 0, " ".join(map(str, command)) + "\n" + done.stdout + done.stderr
                (place / "messages.txt").open("a").write(done.stdout + done.stderr)
            (place / ".done").touch()
    return place / name


def build(kernel, way, source=None):
    """The driver of a kernel, built in a way; `source` is a cuda.cu that stands in for the kernel's own."""
    if way == "ptx":
        return build_ptx(kernel, source)
    cuda = source or kernel.source

    emulation = object_of(HERE / "emulation" / "emulation.cpp", way)
    driver = object_of(kernel.driver, way, [kernel.source.parent])

    def steps(place):
        return [
            [
                *EMULATED,
                *WAYS[way],
                "-x",
                "c++",
                cuda,
                "-x",
                "none",
                driver,
                emulation,
                "-o",
                place / kernel.name,
                "-lpthread",
            ]
        ]

    return built(kernel.name, steps, [cuda.parent, cuda.parent.parent / "common", HERE / "emulation", kernel.driver])


def object_of(file, way, folders=(), flags=()):
    """What is compiled once for each way, not for each bug. `folders`: of headers that it includes."""

    def steps(place):
        return [[*EMULATED, *WAYS[way], *flags, "-x", "c++", "-c", file, "-o", place / f"{file.stem}.o"]]

    return built(f"{file.stem}.o", steps, [file, HERE / "emulation", CSRC / "common", *folders])


def ptx_of(cuda, arch):
    """nvcc's PTX of a cuda.cu for an architecture; host.o beside it if it is the one that is emulated."""

    def steps(place):
        code = ["-gencode", f"arch=compute_{arch},code=compute_{arch}", "-Werror", "all-warnings"]
        if arch == EMULATED_PTX:
            code += ["--keep", "--keep-dir", place, "-c", "-o", place / "host.o"]
        else:
            code += ["-ptx", "-o", place / "cuda.ptx"]
        return [[nvcc(), "-std=c++20", "-O3", *code, cuda]]

    return built("cuda.ptx", steps, [cuda.parent, cuda.parent.parent / "common"])


def build_ptx(kernel, source=None):
    """nvcc's PTX, translated to C++, behind nvcc's own host code."""
    code, translator = ptx_of(source or kernel.source, EMULATED_PTX), HERE / "ptx"
    flags = ["-std=c++20", "-w", "-fno-exceptions", "-DDC_EMU", "-I", translator, "-I", HERE / "emulation"]
    emulation = object_of(HERE / "emulation" / "emulation.cpp", "fibers")
    driver = object_of(kernel.driver, "fibers", [kernel.source.parent])

    def steps(place):
        generated = place / "kernel.gen.cpp"
        parts = [generated, translator / "fake_cudart.cpp", code.parent / "host.o", driver, emulation]
        return [
            [sys.executable, translator / "ptx2cpp.py", code, generated],
            ["g++", *flags, "-O0", *parts, "-o", place / kernel.name, "-lpthread"],
        ]

    return built(kernel.name, steps, [HERE / "emulation", translator])


def write(path, cases):
    with open(path, "wb") as out:
        out.write(struct.pack("<q", len(cases)))
        for case in cases:
            out.write(struct.pack(f"<{1 + len(case.numbers)}q", np.dtype(case.dtype).itemsize, *case.numbers))
            for array in case.arrays:
                out.write(np.ascontiguousarray(array, case.dtype).tobytes())


def read(path, cases):
    numbers, at, out = path.read_bytes(), 0, []
    for case in cases:
        results = []
        for want in case.want:
            bytes_ = want.size * np.dtype(case.dtype).itemsize
            results.append(np.frombuffer(numbers[at : at + bytes_], case.dtype).reshape(want.shape))
            at += bytes_
        out.append(results)
    assert at == len(numbers), f"a driver wrote {len(numbers)} bytes, {at} were expected"
    return out


class Failed(Exception):
    """A driver ended early; its message says what the kernel did wrong."""


def run_driver(program, cases, folder, order=0, seed=1, timeout=240):
    """What a driver gives for the cases, bit for bit; raises Failed."""
    write(folder / "cases.bin", cases)
    environment = {**os.environ, **ENVIRONMENT}
    command = [program, folder / "cases.bin", folder / "results.bin", order, seed]
    done = run(command, env=environment, timeout=timeout)
    if done.returncode:
        raise Failed(f"exit status {done.returncode}: {done.stderr.strip()[:4000]}")
    return read(folder / "results.bin", cases)


def errors(results, want):
    """Relative L2 errors; the error itself where the result is zero to rounding."""
    out = []
    for got, reference in zip(results, want, strict=True):
        size = np.linalg.norm(reference)
        difference = np.linalg.norm(got.astype(np.float64) - reference)
        out.append(float(difference / size if size > 1e-12 else difference))
    return out


def complaint(case, results):
    """What is wrong with the results of a case, or an empty string."""
    found = errors(results, case.want)
    if not all(e <= case.tolerance for e in found):
        return f"{case.name}: relative errors {found}, allowed {case.tolerance}"
    floor = {np.float32: 2.0**-22, np.float64: 2.0**-50}[case.dtype]
    if case.rival and not all(e <= max(r, floor) for e, r in zip(found, case.rival, strict=True)):
        return f"{case.name}: relative errors {found}, a rival has {case.rival}"
    return ""
