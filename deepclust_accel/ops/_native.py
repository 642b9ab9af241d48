"""Opens the compiled libraries once, and remembers why one is missing.

Importing a library registers its kernels with torch. Nothing is hidden: `reason` says why there are no kernels for a
device, and `ops.report` passes it on.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

_PACKAGE = Path(__file__).parent.parent


def _open_cpu() -> tuple[ModuleType | None, str]:
    try:
        from .. import _native_cpu
    except ImportError as error:
        note = _PACKAGE / "_native_missing.txt"
        if note.exists():
            return None, f"installed without native kernels: {note.read_text().strip()}"
        found = list(_PACKAGE.glob("_native_cpu.*"))
        return None, f"cannot open {found[0].name}: {error}" if found else "the native library was not built"
    return _native_cpu, ""


def _open_cuda() -> tuple[ModuleType | None, str]:
    """A library is named for the major version of CUDA it was built with; another one's is not opened."""
    found = sorted(
        path.name.partition(".")[0].removeprefix("_native_cuda") for path in _PACKAGE.glob("_native_cuda*.so")
    )
    if torch.version.cuda is None:
        return None, "torch is built without cuda (torch.version.cuda is None); install a CUDA build of torch"
    major = torch.version.cuda.partition(".")[0]
    if major not in found:
        note = _PACKAGE / "_native_cuda_missing.txt"
        have = f"only for CUDA {', '.join(found)}" if found else note.read_text().strip() if note.exists() else "none"
        return None, (
            f"torch needs a library for cuda {major}, there is {have}; "
            f"install with DCACCEL_CUDA=1 and nvcc {major} on PATH" + (", or torch for the other one" if found else "")
        )
    try:
        return import_module(f"deepclust_accel._native_cuda{major}"), ""
    except ImportError as error:
        return None, f"cannot open _native_cuda{major}: {error}"


def _open_autograd() -> str:
    """Opens the library of csrc/autograd for the torch that runs; why there is none, or an empty string."""
    if cpu is None:
        return _cpu_reason
    try:
        import_module("deepclust_accel._native_autograd_" + re.sub(r"\W", "_", torch.__version__.partition("+")[0]))
    except ImportError as error:
        note = _PACKAGE / "_native_autograd_missing.txt"
        return f"installed without it: {note.read_text().strip()}" if note.exists() else str(error)
    return ""


cpu, _cpu_reason = _open_cpu()
cuda, _cuda_reason = _open_cuda()
_autograd_reason = _open_autograd()


def reason(device: str) -> str:
    """Why no native kernel runs on this type of device, or an empty string."""
    reasons = {"cpu": _cpu_reason, "cuda": _cuda_reason}
    return reasons.get(device, f"there are no native kernels for {device}")


def instruction_sets() -> list[str]:
    """Instruction sets the CPU kernels can use here, lowest first; empty without the library."""
    return list(cpu.instruction_sets()) if cpu else []


def instruction_set() -> str | None:
    """The instruction set the CPU kernels use, or None without the library."""
    return cpu.instruction_set() if cpu else None


def set_instruction_set(name: str) -> None:
    """Use a lower instruction set than the best; for tests and measurements."""
    if cpu is None:
        raise RuntimeError(f"instruction set: expected a native library, got none ({_cpu_reason})")
    cpu.set_instruction_set(name)


def build_info() -> dict[str, object]:
    """Compiler, flags, git commit and compiled instruction sets of the CPU library, and whether autograd calls the pair
    losses from C++ or, 30 us a step slower, from Python, and why; empty without the library."""
    autograd = f"Python: {_autograd_reason}" if _autograd_reason else "C++"
    return {**cpu.build_info(), "autograd": autograd} if cpu else {}
