"""Mistakes in the arguments of operators, told in one line: what, expected, got, what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
FULL = (torch.float32, torch.float64)

# Rows of this process -> the rows of all processes, and the place of this one's first among them.
Gather = Callable[[Tensor], tuple[Tensor, int]]


def wrong(op: str, what: str, expected: str, got: object, advice: str, kind: type[Exception] = ValueError) -> Exception:
    """The error to raise for a wrong argument of an operator."""
    return kind(f"{op}: {what}: expected {expected}, got {got}; {advice}")


def one_of(op: str, what: str, got: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices."""
    if got not in choices:
        raise wrong(op, what, " or ".join(map(repr, choices)), repr(got), "choose one of them")


def pair_inputs(op: str, **tensors: Tensor) -> tuple[Tensor, ...]:
    """Matrices with equal rows, on one device and of one type; half types become float32."""
    given, rows = floats(op, **tensors), 0
    for name, x in zip(tensors, given, strict=True):
        shape = x.shape
        if len(shape) != 2:
            raise wrong(op, f"shape of {name}", "two dimensions, (rows, columns)", tuple(shape), "reshape it")
        if shape[0] != rows and x is not given[0]:
            raise wrong(op, f"rows of {name}", f"{rows}, as in {next(iter(tensors))}", shape[0], "pass equal rows")
        if 0 in shape:
            raise wrong(op, f"size of {name}", "at least one row and column", tuple(shape), "skip empty batches")
        rows = shape[0]
    return given


def floats(op: str, **tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, which must be of one floating type and on one device; half types become float32."""
    given = tuple(tensors.values())
    if _alike(given):
        return given
    for name, x in tensors.items():
        if not isinstance(x, Tensor):
            raise wrong(op, name, "a tensor", type(x).__name__, "pass a torch.Tensor", TypeError)
        if x.dtype not in FULL and x.dtype not in HALF:
            raise wrong(op, f"dtype of {name}", "a floating type", x.dtype, "convert it with .float()", TypeError)
    names = _listed(list(tensors))
    if len({x.device for x in given}) > 1:
        got = _listed([str(x.device) for x in given])
        raise wrong(op, f"devices of {names}", "one device", got, "move them with .to(device)")
    mixed = len({x.dtype for x in given}) > 1
    if mixed and torch.is_autocast_enabled(given[0].device.type):  # some come from layers in half precision, some not
        given = tuple(x.float() if x.dtype in HALF else x for x in given)
        mixed = len({x.dtype for x in given}) > 1
    if mixed:
        got = _listed([str(x.dtype) for x in given])
        raise wrong(op, f"dtypes of {names}", "one dtype", got, "convert them with .to(dtype)")
    return tuple(x.float() if x.dtype in HALF else x for x in given)


def _alike(given: tuple[Tensor, ...]) -> bool:
    """Whether there is nothing to say or do. A batch of 300 takes 200 us forward and backward: checks must not take ten."""
    first = given[0]
    if not isinstance(first, Tensor):
        return False
    kind, device = first.dtype, first.device
    return kind in FULL and all([isinstance(x, Tensor) and x.dtype is kind and x.device == device for x in given])


def gathered(op: str, gather: Gather, own: Tensor) -> tuple[Tensor, int]:
    """What ``gather`` returns for the own rows, which must be among them."""
    rows, start = gather(own)
    if rows.shape[1:] != own.shape[1:] or not 0 <= start <= len(rows) - len(own):
        got = f"{tuple(rows.shape)} and {start} for rows of shape {tuple(own.shape)}"
        raise wrong(
            op, "result of gather", "the rows of all ranks and the place of the own", got, "see its description"
        )
    return rows, start


def matrix(op: str, name: str, x: Tensor, rows: str, columns: str) -> None:
    """``x`` must be two-dimensional."""
    if x.dim() != 2:
        advice = "reshape it"
        raise wrong(op, f"shape of {name}", f"two dimensions, ({rows}, {columns})", tuple(x.shape), advice)


def rows_and_centers(op: str, names: tuple[str, str], x: Tensor, centers: Tensor) -> None:
    """``x`` (N, D) and ``centers`` (K, D) must fit together, with K and D of at least 1."""
    for name, tensor, rows in zip(names, (x, centers), "NK", strict=True):
        matrix(op, name, tensor, rows, "D")
    if x.shape[1] != centers.shape[1]:
        got = f"{x.shape[1]} and {centers.shape[1]}"
        raise wrong(op, f"columns of {_listed(list(names))}", "the same D", got, "pass rows and centers of one space")
    if 0 in centers.shape:
        raise wrong(op, f"shape of {names[1]}", "K and D of at least 1", tuple(centers.shape), "pass a center")


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
