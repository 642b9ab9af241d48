"""One call turns a reference function into a torch operator.

The schema, the reference, the shapes for torch.compile, the derivative and the autocast rule are Python; compiled
kernels attach by dispatch key when `_native` opens a library. Which of the two runs is never a secret: `backend`
chooses, `report` tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from . import _native

NAMESPACE = "dcaccel"
BACKENDS = ("auto", "native", "reference")
DEVICES = ("cpu", "cuda")
_operators: list[str] = []
_records: list[dict[str, dict[str, Any]]] = []  # those of the `record` blocks that are open


_backend: ContextVar[str] = ContextVar("dcaccel_backend", default=os.environ.get("DCACCEL_BACKEND") or "auto")


def _current() -> str:
    chosen = _backend.get()
    if chosen not in BACKENDS:
        raise ValueError(f"DCACCEL_BACKEND: expected one of {', '.join(BACKENDS)}, got {chosen!r}; unset it")
    return chosen


# What torch.compiler.assume_constant_result does, without importing the compiler, which takes a second: a compiled
# function keeps the backend it was traced under.
_current._dynamo_marked_constant = True  # type: ignore[attr-defined]


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the kernels that operators run on inside a ``with`` block.

    ``"reference"`` is plain PyTorch: slower, N x N memory, but on any device and twice differentiable. ``"native"`` is
    the compiled kernel or a RuntimeError that says why there is none. ``"auto"``, what applies outside, is the
    compiled kernel where there is one. The environment variable ``DCACCEL_BACKEND`` sets what applies outside.

    >>> with backend("reference"):
    ...     pass
    """
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r}; choose one of them")
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


def kernel_for(name: str, device: str) -> tuple[str, str]:
    """Which kernel of an operator runs on a type of device under the current backend, and why."""
    chosen = _current()
    if chosen == "reference":
        return "reference", "chosen by ops.backend or DCACCEL_BACKEND"
    missing = _missing(name, device)
    if missing:
        return "reference", missing
    return "native", f"instruction set {_native.instruction_set()}" if device == "cpu" else "compiled"


def _missing(name: str, device: str) -> str:
    if torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", device.upper()):
        return ""
    return _native.reason(device) or f"the library has no kernel of {name} for {device}"


def report() -> dict[str, dict[str, Any]]:
    """What every operator can run on here, which kernel would run, and the reason for each gap.

    For each operator: ``reference`` (always "available"), ``cpu`` and ``cuda`` ("available" or why not),
    ``runs`` (device -> "native" or "reference" under the current backend), ``why`` (device -> the reason) and
    ``instruction_set`` of the CPU kernels (None without them).

    >>> report()["wasserstein_similarity"]["reference"]
    'available'
    """
    table = {}
    for name in _operators:
        chosen = {device: kernel_for(name, device) for device in DEVICES}
        table[name] = {
            "reference": "available",
            **{device: _missing(name, device) or "available" for device in DEVICES},
            "runs": {device: kernel for device, (kernel, _) in chosen.items()},
            "why": {device: why for device, (_, why) in chosen.items()},
            "instruction_set": _native.instruction_set(),
        }
    return table


@contextmanager
def record() -> Iterator[dict[str, dict[str, Any]]]:
    """Note which kernels the operators run on inside a ``with`` block.

    Yields:
        Filled as operators are called: name -> ``kernel`` ("native" or "reference"), ``device``, ``why`` and
        ``calls``. Gradients are not counted, nor are calls inside a compiled function.

    >>> with record() as used:
    ...     pass
    >>> used
    {}
    """
    used: dict[str, dict[str, Any]] = {}
    _records.append(used)
    try:
        yield used
    finally:
        _records[:] = [each for each in _records if each is not used]


def _note(name: str, label: str, device: str) -> None:
    kernel, why = kernel_for(name, device)
    for used in _records:
        calls = used.get(label, {}).get("calls", 0) + 1
        used[label] = {"kernel": kernel, "device": device, "why": why, "calls": calls}


def define(
    name: str,
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    autocast: torch.dtype | None = None,
    part_of: str = "",
) -> Callable[..., Any]:
    """Register ``reference`` as operator ``dcaccel::name`` and return a callable.

    Args:
        name: of the operator; a name that ends in ``_bwd`` is a gradient and left out of `report`.
        schema: argument and result types, ``"(Tensor x) -> Tensor"``.
        reference: plain PyTorch; runs on any device without a compiled kernel, and under ``backend("reference")``.
        fake: output shapes for torch.compile.
        save: fills the autograd context, ``save(ctx, inputs, output)``.
        backward: ``backward(ctx, *grads)``; without one, differentiating raises instead of returning wrong numbers.
        autocast: compute type under autocast (losses: float32).
        part_of: the operator that this is a step of: left out of `report`, and recorded under that name.

    Returns:
        A function of the schema's arguments, all positional, the first a tensor.
    """
    full = f"{NAMESPACE}::{name}"
    torch.library.define(full, schema)
    torch.library.impl(full, "default", reference)
    torch.library.register_fake(full, fake)
    if backward is None:
        save, backward = _no_derivative(name)
    torch.library.register_autograd(full, backward, setup_context=save)
    if autocast is not None:
        for device in DEVICES:
            torch.library.register_autocast(full, device, autocast)
    if not name.endswith("_bwd") and not part_of:
        _operators.append(name)
    packet = getattr(getattr(torch.ops, NAMESPACE), name).default
    label = "" if name.endswith("_bwd") else part_of or name
    return _chooser(name, label, reference, packet, _direct(packet, save, backward), autocast is not None)


def _no_derivative(name: str) -> tuple[Callable[..., None], Callable[..., Any]]:
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            f"{name}: expected a first derivative, got a request for the next one; "
            "wrap the call in ops.backend('reference'), which is plain PyTorch"
        )

    return lambda ctx, inputs, output: None, backward


def _chooser(name: str, label: str, reference: Any, packet: Any, direct: Any, casts: bool) -> Callable[..., Any]:
    """The function that picks the kernel at every call, and notes it under its label if it has one."""
    is_compiling = torch.compiler.is_compiling

    def call(*args: Any) -> Any:
        chosen = _current()
        if _records and label and not is_compiling():
            _note(name, label, args[0].device.type)
        if chosen == "reference":
            return reference(*args)
        if chosen == "native" and (missing := _missing(name, args[0].device.type)):
            raise RuntimeError(f"{name}: expected a native kernel, got none: {missing}; use ops.backend('auto')")
        if is_compiling() or (casts and torch.is_autocast_enabled(args[0].device.type)):
            return packet(*args)
        return direct(*args)

    return call


def _direct(packet: Any, save: Any, backward: Any) -> Callable[..., Any]:
    """The operator without the Python part of torch.library's autograd, which costs 60 us a step: as much as the
    kernel needs for a batch of 300. Where its derivative is in C++, also without the other 30 of Python."""
    below_autograd = torch._C._AutoDispatchBelowAutograd

    def forward(*args: Any) -> Any:
        with below_autograd():
            return packet(*args)

    def forward_and_save(ctx: Any, *args: Any) -> Any:  # a separate setup_context costs a signature lookup a call
        output = forward(*args)
        save(ctx, args, output)
        return output

    methods = {"forward": staticmethod(forward_and_save), "backward": staticmethod(backward)}
    function = type(packet.__name__, (torch.autograd.Function,), methods)
    apply = super(torch.autograd.Function, function).apply  # without what Function.apply does for torch.func
    transformed = torch._C._are_functorch_transforms_active
    in_cpp = torch._C._dispatch_has_kernel_for_dispatch_key(packet.name(), "AutogradCPU")  # csrc/autograd

    def call(*args: Any) -> Any:
        if torch.is_grad_enabled():
            for x in args:  # any() with a generator takes three times as long
                if isinstance(x, torch.Tensor) and x.requires_grad:
                    if transformed():
                        raise RuntimeError(
                            f"{packet.__name__}: expected torch.autograd, got torch.func on a compiled kernel; "
                            "wrap the call in ops.backend('reference'), which is plain PyTorch"
                        )
                    return packet(*args) if in_cpp and x.is_cpu else apply(*args)
        return forward(*args)

    return call
