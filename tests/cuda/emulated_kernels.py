"""A pytest plugin under which operators run on their emulated CUDA kernels, in place of those for the CPU.

`-p emulated_kernels` with EMULATED_KERNELS, the path of the library: the operators' own tests, which know nothing of
it, then find one instruction set, "baseline", and test the binding and the kernels of csrc/<op>/cuda*.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401  the library needs it open

_path = Path(os.environ["EMULATED_KERNELS"])
importlib.util.module_from_spec(importlib.util.spec_from_file_location(_path.stem, _path))

_library = ModuleType("deepclust_accel._native_cpu")
_library.build_info = dict
_library.instruction_sets = lambda: ["baseline"]
_library.instruction_set = lambda: "baseline"
_library.set_instruction_set = lambda name: None
sys.modules[_library.__name__] = _library

from deepclust_accel.ops import residual_block  # noqa: E402

residual_block.__globals__["_on_cuda"] = lambda x: True
