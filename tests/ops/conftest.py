"""The kernels that operators are tested on."""

import pytest

from deepclust_accel import ops


@pytest.fixture(params=["baseline", "avx2", "avx512", "reference"])
def kernel(request):
    """Every kernel there is; those this machine cannot run are skipped by name."""
    if request.param == "reference":
        with ops.backend("reference"):
            yield request.param
        return
    if request.param not in ops.instruction_sets():
        pytest.skip(f"{request.param}: not among {ops.instruction_sets()}; {ops.report()['soft_assign']['cpu']}")
    before = ops.instruction_set()
    ops.set_instruction_set(request.param)
    with ops.backend("native"):
        yield request.param
    ops.set_instruction_set(before)
