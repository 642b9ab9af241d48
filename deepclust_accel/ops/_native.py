"""Opens the compiled libraries once, and remembers why one is missing.

Importing a library registers its kernels with torch. Nothing is hidden: `reason` says why there are no kernels for a
device, and `ops.report` passes it on.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType


def _open_cpu() -> tuple[ModuleType | None, str]:
    try:
        from .. import _native_cpu
    except ImportError as error:
        note = Path(__file__).parent.parent / "_native_missing.txt"
        if note.exists():
            return None, f"installed without native kernels: {note.read_text().strip()}"
        found = list(note.parent.glob("_native_cpu.*"))
        return None, f"cannot open {found[0].name}: {error}" if found else "the native library was not built"
    return _native_cpu, ""


cpu, _cpu_reason = _open_cpu()


def reason(device: str) -> str:
    """Why no native kernel runs on this type of device, or an empty string."""
    if device == "cpu":
        return _cpu_reason
    return f"there are no native kernels for {device} yet"


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
    """Compiler, flags, git commit and compiled instruction sets of the CPU library; empty without it."""
    return dict(cpu.build_info()) if cpu else {}
