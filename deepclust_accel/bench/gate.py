"""Nobody is timed who computes something else: value and gradients against float64, at every size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepclust_accel.bench.case import Call, Case, Inputs


@dataclass(frozen=True)
class Verdict:
    """How far a provider is from float64.

    Args:
        error: largest relative L2 error of the value and the gradients.
        reason: what is wrong, or an empty string when it passes.
    """

    error: float
    reason: str


def relative(found: Tensor, exact: Tensor) -> float:
    """Relative L2 error; infinite when something is not finite or has another shape."""
    if found.shape != exact.shape or not torch.isfinite(found).all():
        return math.inf
    size = torch.linalg.vector_norm(exact).item()
    gap = torch.linalg.vector_norm(found.detach().double() - exact).item()
    return gap / size if size else gap


def check(case: Case, call: Call, inputs: Inputs, exact: tuple[float | Tensor, Inputs]) -> Verdict:
    """Run ``call`` forward and backward once and compare with what ``case.exact`` gave for the same inputs."""
    value = call(*inputs)
    wanted = torch.as_tensor(exact[0], dtype=torch.float64)
    if wanted.numel() == value.numel() == 1:
        wanted = wanted.reshape(value.shape)
    if value.shape != wanted.shape:
        return Verdict(math.inf, f"value: shape {tuple(value.shape)}, expected {tuple(wanted.shape)}")
    gradients = torch.autograd.grad(value, inputs, case.gradient_from_above(len(inputs[0])))
    errors = {"value": relative(value, wanted)}
    for name, found, wanted in zip(case.names, gradients, exact[1], strict=True):
        errors[f"gradient of {name}"] = relative(found, wanted)
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] <= case.tolerance:
        return Verdict(errors[worst], "")
    return Verdict(errors[worst], f"{worst}: relative L2 error {errors[worst]:.2g}, tolerance {case.tolerance:.0e}")
