"""CUDA kernels compiled by nvcc for every architecture, without a warning or a spill, and within their budget."""

import json
import re
import shutil

import pytest
from cuda_budget import ARCHITECTURES, BUDGET, PTX_OF, complaints, costs, nvdisasm
from cuda_kernels import KERNELS
from cuda_running import Kernel, ptx_of
from cuda_sass import occupancy, share_of_peak

pytestmark = pytest.mark.cuda
needs_nvcc = pytest.mark.skipif(
    not shutil.which("nvcc"), reason="nvcc is not on PATH; nothing can be compiled for CUDA"
)
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)


@needs_nvcc
@kernels
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_within_budget(kernel: Kernel, arch):
    """Registers, shared memory and spills; compiling is half of the test, warnings and spills are errors."""
    before = json.loads(BUDGET.read_text())[kernel.name][arch]
    found = complaints(costs(kernel, arch), before)
    assert not found, "\n".join(found)


@needs_nvcc
@pytest.mark.parametrize(
    "kernel, arch",
    [(k, "90") for k in KERNELS] + [(KERNELS[-1], arch) for arch in ("86", "89", "120")],
    ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_an_architecture_has_the_ptx_of_the_one_that_it_is_compiled_from(kernel: Kernel, arch):
    """So what runs emulated for sm_80 is what sm_90 runs, for every operator; the others are tried with a short one."""
    own, other = (_instructions(ptx_of(kernel.source, a), a) for a in (arch, PTX_OF[arch]))
    assert own == other


def _instructions(ptx, arch):
    """The text, without the architecture and what an unnamed namespace is called, which has a process number in it."""
    text = ptx.read_text()
    assert text.count(f".target sm_{arch}") == 1 and ".entry" in text
    return re.sub(r"\d+_GLOBAL__N__\w{8}_\d+_cuda_cu_\w{8}(_\d+)?", "", text.replace(f".target sm_{arch}", ""))


@needs_nvcc
@pytest.mark.skipif(
    not nvdisasm(), reason="nvdisasm is neither on PATH nor installed (pip install nvidia-cuda-nvdisasm)"
)
@kernels
@pytest.mark.parametrize("arch", ["80", "90"])
def test_the_main_loops_leave_room_for_most_of_the_peak(kernel: Kernel, arch):
    for name, row in costs(kernel, arch).items():
        wanted = next(h.share for h in kernel.hot if h.name == name)
        assert row["share"] >= wanted, (name, row)


def test_a_spill_and_a_slow_loop_are_over_budget():
    """The complaints themselves."""
    good = {"registers": 100, "shared_bytes": 512, "spilled_bytes": 0, "blocks": 4, "share": 0.7}
    assert not complaints({"k": good}, {"k": good})
    for change in ({"registers": 109}, {"shared_bytes": 513}, {"spilled_bytes": 4}, {"blocks": 3}, {"share": 0.66}):
        assert len(complaints({"k": good | change}, {"k": good})) == 1
    assert "not in budget.json" in complaints({"k": good}, {})[0]


def test_occupancy_and_share_by_hand():
    assert occupancy("90", 168, 20480, 128) == (3, 12 / 64)  # 65536 / (168 * 128) registers
    assert occupancy("80", 32, 49152, 128) == (3, 12 / 64)  # 164 KiB / (48 + 1)
    assert occupancy("75", 32, 0, 1024) == (1, 1.0)
    only_multiply_adds = {
        "issue": 64,
        "fp32": 64,
        "flops": 128,
        **dict.fromkeys(("fp64", "int", "mufu", "wavefronts"), 0),
    }
    assert share_of_peak(only_multiply_adds, "90") == 1.0
    assert share_of_peak(only_multiply_adds | {"issue": 128}, "90") == 0.5  # half of the slots go to something else
    assert share_of_peak(only_multiply_adds | {"issue": 128}, "80") == 1.0  # which has slots to spare
