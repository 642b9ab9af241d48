"""One door for every kind of input: an array, a tensor, a file or the name of a data set."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, nearest
from . import named
from .formats import open_path, split
from .identity import fingerprint
from .loader import shuffle_of
from .objects import DatasetSource
from .paths import shown
from .source import ArraySource, DataSource
from .sparse import sparse_source


@dataclass(frozen=True, eq=False)
class Data:
    """Rows and what is known about them.

    Attributes:
        source: The rows, as stored.
        labels: (N,) int64 true classes, for scoring only; None if unknown.
        name: What to call the data in reports.
        scaling: Advised kind of ``Scaling``: "none" for arrays and files, the registry's for named sets.
        image_shape: Shape of one row as an image, (H, W), or the stored row shape where it has 2 or 3 axes; else None.
        origin: JSON-able record: ``kind`` ("array", "source", "file", "folder", "named"), ``path`` or ``name``,
            ``fingerprint``, and ``shuffle``: how epochs mix the rows.
        n_clusters: Number of classes in ``labels``; None if unknown.
    """

    source: DataSource
    labels: np.ndarray | None
    name: str
    scaling: str
    image_shape: tuple[int, ...] | None
    origin: dict
    n_clusters: int | None


def open_data(spec: "str | Path | np.ndarray | Tensor | DataSource", *, download: bool = True) -> Data:
    """Open an array, a tensor, a sparse matrix, a torch Dataset, a source, a file, a folder of files or a named data set.

    A string is a named set if it is one of ``names()``, else a path; write ``./digits`` for a file of that name. A part may
    follow a path: ``x.h5::group/rows`` one dataset, ``x.parquet::a,b`` two columns, ``x.parquet::-id`` all others.
    Values are not read here, except up to 64 MiB for the fingerprint; ``check_finite`` looks at all.

    Args:
        spec: What to open.
        download: Allow fetching a named set that is neither in ``$DCACCEL_DATA`` nor in the user's cache.

    Raises:
        DataError: Anything wrong with it, in one line; for a misspelt name or path with the nearest that exists.
    """
    if isinstance(spec, (np.ndarray, Tensor)):
        return _data(ArraySource(spec), None, "array", {"kind": "array"})
    if isinstance(spec, str) and spec in named.names():
        return _open_named(spec, download)
    if isinstance(spec, (str, Path)):
        return _open_path(spec)
    if hasattr(spec, "tocsr"):
        return _data(sparse_source(spec), None, "array", {"kind": "array"})
    if isinstance(spec, DataSource):
        return _data(spec, None, "source", {"kind": "source"})
    if isinstance(spec, Dataset) and hasattr(spec, "__len__"):
        return _data(DatasetSource(spec), None, "dataset", {"kind": "source"})
    if isinstance(spec, Iterable) and not isinstance(spec, (list, tuple, dict, bytes)):
        raise DataError(
            f"data: expected rows that can be read by number, got {type(spec).__name__}; write its batches to disk with "
            "deepclust_accel.data.from_batches"
        )
    raise DataError(
        f"data: expected an array, a tensor, a path or a name, got {type(spec).__name__}; "
        "convert it to a NumPy array first"
    )


def _data(
    source: DataSource,
    labels: np.ndarray | None,
    name: str,
    origin: dict,
    *,
    scaling: str = "none",
    image_shape: tuple[int, ...] | None = None,
) -> Data:
    shape = tuple(source.spec.shape)
    if image_shape is None and len(shape) in (2, 3):
        image_shape = shape
    classes = None if labels is None else len(np.unique(labels))
    origin = {**origin, "fingerprint": fingerprint(source), "shuffle": shuffle_of(source)}
    return Data(source, labels, name, scaling, image_shape, origin, classes)


def _open_named(name: str, download: bool) -> Data:
    entry, rows, labels = named.load(name, download=download)
    source = ArraySource(rows, name=name)
    source.spec = replace(source.spec, image_shape=entry.image_shape)
    return _data(
        source,
        labels,
        name,
        {"kind": "named", "name": name},
        scaling=entry.scaling,
        image_shape=entry.image_shape,
    )


def _open_path(spec: str | Path) -> Data:
    text = str(spec)
    if not text:
        raise DataError(f"data: expected a path or the name of a data set, got ''; one of {', '.join(named.names())}")
    where, part = split(text)
    path = Path(where)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError as cause:
            raise DataError(f"{text}: expected a readable path, got an unknown home folder; write it out") from cause
    if isinstance(spec, str) and path.name == text and not path.suffix and not path.exists():
        hint = nearest(text.lower(), named.names()) or f"; one of {', '.join(named.names())}"
        raise DataError(f"data {shown(text)!r}: expected a file or the name of a data set, got neither{hint}")
    source, labels = open_path(path, part, shown(text))
    kind = "folder" if path.is_dir() else "file"
    return _data(source, labels, path.stem, {"kind": kind, "path": text})
