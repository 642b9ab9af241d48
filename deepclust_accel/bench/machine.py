"""What the measurements were taken on. Hardware and versions only: no host name, no paths, no user."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from deepclust_accel import ops

_PACKAGES = ("deepclust-accel", "torch", "numpy", "pykeops")


def describe() -> dict[str, Any]:
    """Processor, threads, load of the last minute, memory, versions and build of the kernels."""
    build = ops.build_info()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": ops.instruction_set(),
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "build": {key: build[key] for key in ("compiler", "commit", "autograd") if key in build},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
