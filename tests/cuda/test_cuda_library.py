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


def test_a_kernel_for_cuda_refuses_tensors_of_the_cpu():
    """The dispatcher never sends them there; who goes around it is told, before a kernel reads their memory."""
    x, keys = torch.ones(3, 2), torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    for name, arguments in (("nearest_center", (x, x)), ("wasserstein_similarity", (x, x, x, False))):
        with pytest.raises(RuntimeError, match="expected arguments as ops.<name> passes them"):
            getattr(torch.ops.dcaccel, name).default.redispatch(keys, *arguments)
