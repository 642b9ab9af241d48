"""A run as one HTML page that needs no other file: maps, curves, sizes, confusion, examples, and how to repeat it.

``render`` turns a :class:`ReportContent` into the page; ``write`` gathers one from the results of a run and saves it.
The pictures are written as SVG and PNG here, so a report needs nothing but numpy and follows the reader's light or dark
setting; the same content always gives the same bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["ReportContent", "render", "write"]

_HOMES = {"ReportContent": "content", "render": "page", "write": "collect"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
