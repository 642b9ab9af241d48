"""The kernels there are, as a fixture."""

import pytest

from deepclust_accel import ops

LEVELS = ("baseline", "avx2", "avx512")


@pytest.fixture(params=[*LEVELS, "reference"])
def kernel(request):
    """Every kernel there is; those this machine cannot run are skipped by name."""
    if request.param == "reference":
        with ops.backend("reference"):
            yield request.param
        return
    if request.param not in ops.instruction_sets():
        missing = ops.report()["wasserstein_similarity"]["cpu"]
        pytest.skip(f"{request.param}: " + ("this CPU does not have it" if ops.instruction_sets() else missing))
    before = ops.instruction_set()
    ops.set_instruction_set(request.param)
    with ops.backend("native"):
        yield request.param
    ops.set_instruction_set(before)
