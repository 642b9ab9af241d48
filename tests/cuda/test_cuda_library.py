"""The CUDA library opened by a CUDA build of torch (make cuda-check): what is registered, and what is refused."""

import pytest
import torch

from deepclust_accel import ops
from deepclust_accel.ops import _native

pytestmark = pytest.mark.skipif(_native.cuda is None, reason=f"the CUDA library is not open: {_native.reason('cuda')}")


def test_every_operator_has_a_cuda_kernel():
    missing = {name: row["cuda"] for name, row in ops.report().items() if row["cuda"] != "available"}
    assert not missing
    assert _native.cuda.build_info()["cuda"].split(".")[0] == torch.version.cuda.split(".")[0]


def test_so_have_the_steps_of_the_distributed_losses():
    kernels = torch._C._dispatch_get_registrations_for_dispatch_key
    steps = {name for name in kernels("CPU") if "_own_" in name}
    assert steps and steps <= set(kernels("CUDA"))


def test_a_kernel_for_cuda_refuses_tensors_of_the_cpu():
    """The dispatcher never sends them there; who goes around it is told, before a kernel reads their memory."""
    x, keys = torch.ones(3, 2), torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    calls = [("nearest_center", (x, x)), ("wasserstein_similarity", (x, x, x, False))]
    calls += [
        ("wasserstein_similarity_own_sums", (x, x, x, 0, 1)),
        ("t_similarity_own_nearest", (x, x, 1.0, 1.0, True, 0, 1)),
    ]
    for name, arguments in calls:
        with pytest.raises(RuntimeError, match="expected arguments as ops.<name> passes them"):
            getattr(torch.ops.dcaccel, name).default.redispatch(keys, *arguments)
