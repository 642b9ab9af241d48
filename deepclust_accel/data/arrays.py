"""Arrays from ``.npy``, mapped, and ``.npz``, read. Nothing is ever unpickled."""

import zipfile
from pathlib import Path

import numpy as np

from ..errors import DataError
from .csv import read_csv
from .labels import as_labels
from .paths import PLAIN_SUFFIXES, check_file, shown, translated

__all__ = ["npz_header", "read_file", "read_member"]


def read_file(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read rows and, where the file has them, labels.

    ``.npy`` is memory-mapped read-only, whatever its size. ``.npz`` is read into memory: ``X``, and ``y`` if there.
    ``.csv`` is comma-separated UTF-8 numbers with an optional header line (one whose every entry is no number); it
    becomes float64, so that no digit is lost. Values are not checked here (see ``check_finite``).

    Returns:
        Rows (N, ...) in the stored dtype, and (N,) int64 labels or None.

    Raises:
        DataError: Missing, unreadable, empty or truncated file, object arrays, other suffix, labels that do not fit.
    """
    what = shown(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": read_csv}
    suffix = path.suffix.lower()
    check_file(path)
    if suffix not in readers:
        raise DataError(
            f"{what}: expected a file ending in {', '.join(PLAIN_SUFFIXES)}, got {suffix or 'no ending'!r}; "
            "convert it, for example with numpy.save"
        )
    with translated(what, suffix):
        return readers[suffix](path, what)


def _read_npy(path: Path, what: str) -> tuple[np.ndarray, None]:
    try:
        # not numpy.load, which would also open zip archives and offers to unpickle
        return np.lib.format.open_memmap(path, mode="r"), None
    except ValueError as cause:
        if "Python objects" in str(cause):
            raise _objects(what, "an array") from cause
        if "length is greater" in str(cause):
            raise DataError(
                f"{what}: expected the rows its header promises, got a truncated file; write or copy it again"
            ) from cause
        raise


def _read_npz(path: Path, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    _check_zip(path, what)
    with np.load(path, allow_pickle=False) as archive:
        if "X" not in archive.files:
            keys = ", ".join(archive.files[:8]) or "nothing"
            raise DataError(
                f"{what}: expected an array named X (and optionally y), got {keys}; save with numpy.savez(path, X=rows)"
            )
        rows = _member(archive, "X", what)
        labels = _member(archive, "y", what) if "y" in archive.files else None
    if labels is not None:
        labels = as_labels(labels, len(rows) if rows.ndim else 0, f"{what}: y")
    return rows, labels


def read_member(path: Path, key: str) -> np.ndarray:
    """Read one array of an .npz.

    Raises:
        DataError: A damaged file, no array of that name, or one of Python objects.
    """
    what = shown(path)
    check_file(path)
    with translated(what, ".npz"):
        _check_zip(path, what)
        with np.load(path, allow_pickle=False) as archive:
            if key not in archive.files:
                keys = ", ".join(archive.files[:8]) or "nothing"
                raise DataError(f"{what}: expected an array named {key}, got {keys}; save it with numpy.savez")
            return _member(archive, key, what)


def npz_header(path: Path, key: str = "X") -> tuple[list[str], tuple[int, ...], np.dtype]:
    """Names of the arrays in an .npz, and shape and dtype of one ((0,) if there is none), without reading it.

    Raises:
        DataError: A damaged file, or an array of Python objects.
    """
    what = shown(path)
    check_file(path)
    with translated(what, ".npz"):
        _check_zip(path, what)
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if f"{key}.npy" not in archive.namelist():
                return names, (0,), np.dtype(np.uint8)
            with archive.open(f"{key}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                form = np.lib.format
                read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
                shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise _objects(what, key)
    return names, shape, dtype


def _check_zip(path: Path, what: str) -> None:
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise DataError(f"{what}: expected an archive made by numpy.savez, got something else; write it again")


def _member(archive, key: str, what: str) -> np.ndarray:
    try:
        member = archive[key]
    except ValueError as cause:
        if "Object arrays" in str(cause):
            raise _objects(what, key) from cause
        raise
    if not isinstance(member, np.ndarray):
        raise DataError(f"{what}: expected {key} to be an array, got raw bytes; save with numpy.savez")
    return member


def _objects(what: str, part: str) -> DataError:
    return DataError(
        f"{what}: expected numbers, got {part} of Python objects, which are never unpickled; "
        "save it with a numeric dtype"
    )
