"""Libraries that only some formats need."""

from importlib import import_module
from types import ModuleType

from deepclust_accel.errors import DataError

__all__ = ["require"]


def require(module: str, extra: str, what: str) -> ModuleType:
    """Import a library that comes with an extra of this package; DataError that says how to get it if it is not there."""
    try:
        return import_module(module)
    except ImportError as cause:
        package = module.partition(".")[0]
        raise DataError(
            f'{what}: expected {package} to be installed, got {cause}; pip install "deepclust_accel[{extra}]"'
        ) from cause
