"""Rows for training: sources, scaling, the loader, files and named data sets.

Names load on first use, so that listing data sets does not import torch.
"""

from importlib import import_module

_HOME = {
    "ArraySource": "source",
    "Batch": "source",
    "DataSource": "source",
    "DatasetSource": "objects",
    "DataSpec": "source",
    "from_batches": "objects",
    "fingerprint": "identity",
    "Rows": "rows",
    "Scaling": "scaling",
    "check_finite": "scaling",
    "Loader": "loader",
    "Data": "opening",
    "open_data": "opening",
    "names": "named",
    "describe": "named",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
