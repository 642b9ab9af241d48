"""deepclust_accel: deep clustering of large data sets.

Importing this package loads nothing heavy; ``DeepClusterer`` and the subpackages load on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["DeepClusterer", "__version__", "ops"]

_HOMES = {"DeepClusterer": "estimator"}
_MODULES = ("cluster", "config", "data", "engine", "estimator", "metrics", "methods", "nn", "ops", "report", "testing")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
