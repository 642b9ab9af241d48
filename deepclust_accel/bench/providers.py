"""Who computes an operator: our kernels, our reference, and what a user would otherwise use."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from deepclust_accel import ops
from deepclust_accel.bench.case import Call, Case


@dataclass(frozen=True)
class Provider:
    """One way to compute a case.

    Args:
        name: as in ``--providers`` and in the results.
        about: one phrase for people.
        build: case -> a function of the case's inputs; called anew for every size.
        missing: case -> why it cannot run here, or an empty string.
        context: holds while its function and the derivative of its result run.
        compiles: whether the first call at a size compiles something.
    """

    name: str
    about: str
    build: Callable[[Case], Call]
    missing: Callable[[Case], str] = lambda case: ""
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    compiles: bool = False


def _native_missing(case: Case) -> str:
    with ops.backend("native"):
        kernel, why = ops.kernel_for(case.operator, "cpu")
    return "" if kernel == "native" else why


def _compiled(case: Case) -> Call:
    # One program per size, as fast as it gets. Without the reset torch would give up specialising after eight sizes
    # and run eager code in silence.
    torch._dynamo.reset()
    return torch.compile(case.eager, fullgraph=True, dynamic=False)


def _keops_missing(case: Case) -> str:
    if case.keops is None:
        return f"no KeOps formulation of {case.operator}"
    if importlib.util.find_spec("pykeops") is None:
        return "not installed; pip install pykeops"
    try:
        importlib.import_module("pykeops").set_verbose(False)
        importlib.import_module("pykeops.torch")
    except Exception as error:  # KeOps looks for compilers and GPUs on import, and anything may be amiss there
        return f"installed, but does not import: {first_line(error)}"
    return ""


def _symbolic(case: Case) -> Call:
    assert case.keops is not None
    return case.keops


def first_line(error: BaseException) -> str:
    """The type and the first line of an error, short enough for a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


PROVIDERS: dict[str, Provider] = {
    p.name: p
    for p in (
        Provider(
            "native",
            "compiled kernel",
            lambda case: case.call,
            missing=_native_missing,
            context=lambda: ops.backend("native"),
        ),
        Provider("reference", "plain PyTorch twin", lambda c: c.call, context=lambda: ops.backend("reference")),
        Provider("eager", "dense PyTorch as a user writes it", lambda case: case.eager),
        Provider("compile", "torch.compile of eager", _compiled, compiles=True),
        Provider("keops", "KeOps symbolic matrices", _symbolic, missing=_keops_missing, compiles=True),
    )
}
