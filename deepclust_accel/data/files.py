"""Arrays from files: ``.npy`` mapped, ``.npz`` and ``.csv`` read; damage of any kind ends in one DataError.

Nothing is ever unpickled. Whatever numpy or zipfile raises on a damaged file is translated here, since those types
tell a user nothing and are many (BadZipFile, EOFError, zlib.error, UnicodeDecodeError, MemoryError …).
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import DataError, nearest

SUFFIXES = (".npy", ".npz", ".csv")


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
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    suffix = path.suffix.lower()
    check_file(path)
    if suffix not in readers:
        raise DataError(
            f"{what}: expected a file ending in {', '.join(SUFFIXES)}, got {suffix or 'no ending'!r}; "
            "convert it, for example with numpy.save"
        )
    with translated(what, suffix):
        return readers[suffix](path, what)


@contextmanager
def translated(what: str, suffix: str) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one DataError that names the file ``what``."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as cause:
        raise DataError(
            f"{what}: expected an array that fits into memory, got one that does not; "
            "save it as .npy, which is read from disk as needed"
        ) from cause
    except OSError as cause:
        raise DataError(f"{what}: expected a readable file, got {_line(cause)}; check permissions and disk") from cause
    except Exception as cause:  # see the module docstring: a damaged file can raise nearly anything
        raise DataError(
            f"{what}: expected a whole {suffix} file, got a damaged one ({_line(cause)}); write or copy it again"
        ) from cause


def as_labels(labels: np.ndarray, rows: int, what: str) -> np.ndarray:
    """Turn labels (N,) or (N, 1) of integers, booleans, whole floats or text into (N,) int64.

    Numbers are kept; text becomes the number of its place in sorted order.

    Raises:
        DataError: Other length, rank or dtype; ``what`` names them in the message.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,):
        raise DataError(
            f"{what}: expected one label per row, shape ({rows},), got shape {labels.shape}; "
            "save class numbers in the order of the rows"
        )
    kind = labels.dtype.kind
    if kind in "US":
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    if kind in "bui" or (kind == "f" and bool(np.isfinite(labels).all() and (labels == np.round(labels)).all())):
        return labels.astype(np.int64)
    raise DataError(
        f"{what}: expected whole numbers or text, got {labels.dtype} values that are neither; number the classes"
    )


def shown(path: Path | str) -> str:
    """A path as it may stand in a message: one line, 200 characters at most."""
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 200 else f"{text[:98]}…{text[-98:]}"


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Raises:
        DataError: No such file, a folder, a device, an empty file.
    """
    what = shown(path)
    try:
        if path.is_dir():
            found = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
            hint = f"such as {path / found[0]}" if found else f"ending in {', '.join(SUFFIXES)}"
            raise DataError(f"{what}: expected a file, got a folder; name a file in it {hint}")
        if not path.exists():
            siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = nearest(path.name, siblings) or "; check the path"
            raise DataError(f"{what}: expected an existing file, got none of that name{hint}")
        if not path.is_file():
            raise DataError(f"{what}: expected a regular file, got a device or pipe; copy its content to a file")
        if path.stat().st_size == 0:
            raise DataError(f"{what}: expected data, got an empty file; write it again")
    except (OSError, ValueError) as cause:  # name too long, no permission to look, a null character
        if isinstance(cause, DataError):
            raise
        raise DataError(f"{what}: expected a readable path, got {_line(cause)}; check it") from cause


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


def _check_zip(path: Path, what: str) -> None:
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise DataError(f"{what}: expected an archive made by numpy.savez, got something else; write it again")


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


def _read_csv(path: Path, what: str) -> tuple[np.ndarray, None]:
    header_lines = csv_header_lines(path)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as lines:
            for _ in range(header_lines):
                next(lines)
            rows = np.loadtxt(lines, delimiter=",", comments=None, quotechar='"', dtype=np.float64, ndmin=2)
    except UnicodeDecodeError as cause:
        raise DataError(f"{what}: expected UTF-8 text, got other bytes; save it as UTF-8") from cause
    except ValueError as cause:
        # numpy counts rows without header and blank lines, so look up the line a text editor would show
        fault = _first_bad_line(path, header_lines) or f"expected a table of numbers, got {_line(cause)}; mend it"
        raise DataError(f"{what}: {fault}") from cause
    return rows, None


def csv_header_lines(path: Path, labels_allowed: bool = False) -> int:
    """Number of lines to skip; 0 if the first line that is not blank has numbers.

    Raises:
        DataError: No such line, names beside numbers, the column numbers of pandas, or (unless allowed) a name of labels.
    """
    what = shown(path)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as lines:
            content = ((number, line) for number, line in enumerate(lines, 1))
            number, first = next(((n, line) for n, line in content if line.strip()), (0, ""))
            if not first:
                raise DataError(f"{what}: expected rows of numbers, got only blank lines; write it again")
            entries = _entries(first)
            numeric = [entry for entry in entries if _is_number(entry)]
            if len(numeric) == len(entries):
                _refuse_column_numbers(entries, number, what)
                return 0
            if not labels_allowed:
                _refuse_labels(entries, what)
            if numeric or not any(entries):
                bad = next(entry for entry in entries if not _is_number(entry))
                raise DataError(
                    f"{what}: expected numbers, or a header without any, got {bad!r} beside numbers "
                    f"in line {number}; fill or rename it"
                )
            if not any(line.strip() for _, line in content):
                raise DataError(f"{what}: expected rows of numbers, got only a header line; check how it was written")
            return number
    except UnicodeDecodeError as cause:
        raise DataError(f"{what}: expected UTF-8 text, got other bytes; save it as UTF-8") from cause


def _refuse_column_numbers(entries: list[str], line: int, what: str) -> None:
    """pandas writes 0, 1, 2 … for columns without names, which would pass for a row."""
    if len(entries) > 1 and entries == [str(i) for i in range(len(entries))]:
        raise DataError(
            f"{what}: expected a row or names, got the column numbers 0 to {len(entries) - 1} in line {line}; delete that "
            "line, or write the file with header=False"
        )


def _refuse_labels(names: list[str], what: str) -> None:
    """A column of labels in a file of rows would be clustered with them."""
    found = [name for name in names if name.strip().strip('"').lower() in ("label", "labels", "class", "target")]
    if found:
        raise DataError(
            f"{what}: expected values to cluster, got a column named {found[0]!r}; take it out and give labels with "
            "--labels, or rename it if it is none"
        )


def _first_bad_line(path: Path, header_lines: int) -> str | None:
    width = None
    with path.open(encoding="utf-8-sig", newline=None) as lines:
        for number, line in enumerate(lines, 1):
            if number <= header_lines or not line.strip("\r\n"):
                continue
            entries = _entries(line)
            for column, entry in enumerate(entries, 1):
                if not _is_number(entry):
                    return f"expected a number, got {entry[:40]!r} in line {number}, entry {column}; mend that line"
            width = width or len(entries)
            if len(entries) != width:
                return f"expected {width} entries as before, got {len(entries)} in line {number}; mend that line"
    return None


def _entries(line: str) -> list[str]:
    return [entry.strip().strip('"').strip() for entry in line.rstrip("\r\n").split(",")]


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return "_" not in entry  # Python reads 1_000 as a number, numpy does not


def _line(cause: BaseException) -> str:
    """The first line of an error, short; its type where it says nothing."""
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    text = " ".join(text.split())[:160]
    return os.fsdecode(text) if text else type(cause).__name__
