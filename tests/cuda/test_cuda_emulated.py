"""CUDA kernels run on the CPU: emulated, under sanitizers, and as the PTX that nvcc makes of them. See README.md."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from cuda_bugs import BUGS, Bug
from cuda_kernels import KERNELS
from cuda_running import Failed, build, complaint, nvcc, run_driver

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not shutil.which("g++"), reason="the emulation of CUDA needs g++, which is not on PATH"),
]
needs_nvcc = pytest.mark.skipif(not nvcc(), reason="nvcc is not on PATH; PTX cannot be made")
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)


def sanitizer(flag):
    """Skips where g++ comes without the library of a sanitizer."""
    library = {"asan": "libasan.so", "tsan": "libtsan.so"}.get(flag)
    if library and not subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).startswith("/"):
        pytest.skip(f"g++ has no {library}")


def check(cases, results):
    wrong = [text for text in map(complaint, cases, results) if text]
    assert not wrong, "\n".join(wrong)


@kernels
def test_right_and_the_same_bits_in_three_schedules(kernel, tmp_path):
    cases, program = kernel.cases(), build(kernel, "fibers")
    first = run_driver(program, cases, tmp_path, order=0)
    check(cases, first)
    for order, seed in ((1, 1), (2, 1), (2, 2)):
        again = run_driver(program, cases, tmp_path, order=order, seed=seed)
        for case, results, others in zip(cases, first, again, strict=True):
            same = all(np.array_equal(a, b) for a, b in zip(results, others, strict=True))
            assert same, f"{case.name}: schedule {order} gives other bits than schedule 0"


def test_long_sums_of_one_split_are_right(tmp_path):
    """Sums leave the registers every eight tiles. With all the splits there are, only thousands of rows would see it."""
    kernel = next(k for k in KERNELS if k.name == "wasserstein_similarity")
    one = Bug("one-split", kernel.name, "common/cuda_pair_tiles.h", "kMaxSplits = 16", "kMaxSplits = 1", "fibers", "")
    cases = [case for case in kernel.cases() if case.numbers[0] >= 600]
    assert cases
    check(cases, run_driver(build(kernel, "fibers", one.planted()), cases, tmp_path))


@kernels
def test_no_access_out_of_bounds_and_nothing_undefined(kernel, tmp_path):
    sanitizer("asan")
    cases = kernel.few()
    check(cases, run_driver(build(kernel, "asan"), cases, tmp_path))


@kernels
def test_no_data_race(kernel, tmp_path):
    sanitizer("tsan")
    cases = kernel.small()
    check(cases, run_driver(build(kernel, "tsan"), cases, tmp_path))


@needs_nvcc
@kernels
def test_what_nvcc_makes_of_it_is_right(kernel, tmp_path):
    cases = kernel.few()
    check(cases, run_driver(build(kernel, "ptx"), cases, tmp_path, order=2))


def objection(kernel, bug, folder):
    """How a bug shows, in the schedule that shows it first; an empty string if it does not."""
    cases = kernel.small() if bug.sees == "tsan" else kernel.few()
    program = build(kernel, bug.sees, bug.planted())
    for order in (0, 1, 2):
        try:
            results = run_driver(program, cases, folder, order=order)
        except Failed as failure:
            return str(failure)
        if any(complaint(case, result) for case, result in zip(cases, results, strict=True)):
            return "wrong"
    return ""


@pytest.mark.parametrize("bug", BUGS, ids=lambda b: b.name)
def test_a_planted_bug_is_seen(bug, tmp_path):
    sanitizer(bug.sees)
    if bug.sees == "ptx" and not nvcc():
        pytest.skip("nvcc is not on PATH; PTX cannot be made")
    kernel = next(k for k in KERNELS if k.name == bug.kernel)
    found = objection(kernel, bug, tmp_path)
    assert re.search(bug.how, found), f"{bug.name}: expected {bug.how!r}, got {found!r}"
