"""What ``dcaccel doctor`` knows: versions, machine, and every operator checked against its float64 reference."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from deepclust_accel import fitting, ops
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods import registry

__all__ = ["examine"]

TOLERANCE = 1e-4  # relative; float32 kernels are about a hundred times better


def examine() -> dict[str, Any]:
    """Check this installation.

    Returns:
        ``versions``, ``machine``, ``operators`` (what each runs on, why, its largest relative error in value and gradients
        against the float64 reference, and whether that agrees), ``methods`` (each imported), ``problems`` and ``healthy``
        (no problems).

    Raises:
        ArgumentError: DCACCEL_BACKEND names none.
    """
    try:
        table = ops.report()
    except ValueError as cause:  # DCACCEL_BACKEND
        raise ArgumentError(str(cause)) from cause
    operators = [_check(name) for name in table]
    methods = [asdict(registry.examine(entry)) for entry in registry.entries()]
    unopened = {row[device] for row in table.values() for device in ("cpu", "cuda")}
    problems = [f"native kernels: {why}; install again" for why in sorted(unopened) if why.startswith("cannot open")]
    problems += [
        f"operator {o['operator']} {o['problem']}; set DCACCEL_BACKEND=reference and report this"
        for o in operators
        if not o["agrees"]
    ]
    problems += [f"method {m['name']}: {m['problem']}" for m in methods if m["problem"]]
    return {
        "versions": {"python": platform.python_version(), **fitting.versions()},
        "machine": _machine(),
        "operators": operators,
        "methods": methods,
        "problems": problems,
        "healthy": not problems,
    }


def _machine() -> dict[str, Any]:
    build = ops.build_info()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "native kernels": "yes" if build else "no",
        "instruction set": ops.instruction_set() or "-",
        "instruction sets usable": ", ".join(ops.instruction_sets()) or "-",
        "compiler": build.get("compiler", "-"),
        "autograd of the pair losses": build.get("autograd", "-"),
        "torch CUDA": torch.version.cuda or "no",
        "CUDA devices": torch.cuda.device_count(),
        "data folder": "set" if os.environ.get("DCACCEL_DATA") else "not set",
    }


def _check(name: str) -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kernel, why = ops.kernel_for(name, device)
    error, problem = None, ""
    try:
        error = _relative_error(name, device)
        if not error <= TOLERANCE:
            problem = f"disagrees with its reference (relative error {error:.1e})"
    except Exception as cause:  # noqa: BLE001 - whatever it is, it is a finding
        problem = f"failed: {type(cause).__name__}: {cause}"
    return {
        "operator": name,
        "runs_on": f"{kernel} ({device})",
        "why": why,
        "error": error if error is not None and math.isfinite(error) else None,  # JSON has no NaN
        "agrees": not problem,
        "problem": problem,
    }


def _relative_error(name: str, device: str) -> float:
    """The largest one of value and gradients against the float64 reference; NaN if any of them is."""
    call, inputs = _CASES[name]()
    got = _value_and_gradients(call, [x.float().to(device) for x in inputs])
    with ops.backend("reference"):
        want = _value_and_gradients(call, inputs)
    return float(torch.stack([(g.cpu().double() - w).norm() / w.norm() for g, w in zip(got, want, strict=True)]).max())


def _value_and_gradients(call: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = call(*leaves)
    return [value.detach(), *(torch.autograd.grad(value, leaves) if value.requires_grad else ())]


def _drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    """In float64, but exact in float32."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator).double() for shape in shapes]


def _wasserstein_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    mu, sigma, gamma = _drawn((201, 7), (201, 7), (201, 5))
    return ops.wasserstein_similarity, [mu, sigma.abs(), gamma.softmax(1).float().double()]


def _t_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    return partial(ops.t_similarity, dof_z=14.0), _drawn((201, 7), (201, 5))


def _assign_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    return lambda z, centers: ops.soft_assign(z, centers).square().sum(), _drawn((201, 7), (5, 7))


def _posterior_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    return lambda *x: ops.mixture_posterior(*x).square().sum(), _drawn((201, 7), (5,), (5, 7), (5, 7))


def _nearest_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    def call(x: Tensor, centers: Tensor) -> Tensor:
        index, distance = ops.nearest_center(x.detach(), centers.detach())
        return torch.stack([index.to(distance.dtype), distance])

    return call, _drawn((201, 7), (5, 7))


def _sums_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    def call(x: Tensor) -> Tensor:
        sums, counts = ops.center_sums(x.detach(), torch.arange(len(x), device=x.device) % 5, 6)
        return torch.cat([sums, counts[:, None].double()], 1)

    return call, _drawn((201, 7))


def _block_case() -> tuple[Callable[..., Tensor], list[Tensor]]:
    return lambda *x: ops.residual_block(*x).square().sum(), _drawn(
        (40, 32, 4, 4), (32, 32, 3, 3), (32,), (32, 32, 3, 3), (32,)
    )


_CASES = {
    "wasserstein_similarity": _wasserstein_case,
    "t_similarity": _t_case,
    "residual_block": _block_case,
    "soft_assign": _assign_case,
    "mixture_posterior": _posterior_case,
    "nearest_center": _nearest_case,
    "center_sums": _sums_case,
}
