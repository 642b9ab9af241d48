"""Which reader a path belongs to: by its suffix, or by the suffixes in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from deepclust_accel.data.arrays import npz_header, read_file, read_member
from deepclust_accel.data.images import IMAGE_SUFFIXES, ImageSource
from deepclust_accel.data.labels import as_labels
from deepclust_accel.data.paths import PLAIN_SUFFIXES, shown
from deepclust_accel.data.source import ArraySource, DataSource
from deepclust_accel.data.sparse import is_sparse, open_sparse
from deepclust_accel.errors import DataError

__all__ = ["open_path", "read_labels", "split"]

# suffix → module and function of a reader that takes (paths, part, name); those of ONE take a single path
_FOLDERS = {
    ".npy": ("shards", "open_shards"),
    ".npz": ("shards", "open_shards"),
    ".csv": ("tables", "open_table"),
    ".parquet": ("tables", "open_table"),
    ".arrow": ("tables", "open_table"),
    ".feather": ("tables", "open_table"),
}
_FILES = {
    **dict.fromkeys((".parquet", ".arrow", ".feather"), ("tables", "open_table")),
    **dict.fromkeys((".h5", ".hdf5"), ("hdf5", "open_hdf5")),
    ".h5ad": ("hdf5", "open_h5ad"),
}
_ONE = ("open_hdf5", "open_h5ad")


def split(text: str) -> tuple[str, str]:
    """Split ``PATH::PART`` into path and part, where there is no file of the whole name."""
    head, sign, part = text.rpartition("::")
    return (head, part) if sign and head and not _there(Path(text)) else (text, "")


def open_path(path: Path, part: str, name: str) -> tuple[DataSource, np.ndarray | None]:
    """Open a file, or a folder of files of one kind, and its labels where it is of .npz that have them.

    Args:
        part: What to take of it: a dataset, columns; empty for all there is.
        name: For messages.

    Raises:
        DataError: Anything wrong with it.
    """
    suffix = path.suffix.lower()
    if _is_folder(path):
        paths = _files_of(path, name)
        if paths[0].suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(paths, part, name), None
        source = _reader(_FOLDERS[paths[0].suffix.lower()])(paths, part, name)
        return source, _labels_of_shards(paths, source.spec.rows, name)
    if suffix in _FILES or part and suffix == ".csv":
        home = _FILES.get(suffix, _FOLDERS[".csv"])
        return _reader(home)(path if home[1] in _ONE else [path], part, name), None
    if part:
        raise DataError(
            f"{name}: expected '::' after a file of columns or datasets, got {suffix or 'no ending'!r}; drop it"
        )
    if os.path.isfile(path) and path.stat().st_size and is_sparse(path):
        return open_sparse(path, name), None
    if suffix not in PLAIN_SUFFIXES and _there(path) and path.is_file():
        raise DataError(
            f"{name}: expected a file ending in {', '.join((*PLAIN_SUFFIXES, *_FILES))}, or a folder of such, got "
            f"{suffix or 'no ending'!r}; convert it, for example with numpy.save"
        )
    rows, labels = read_file(path)
    return ArraySource(rows, name=name), labels


def read_labels(text: str, rows: int) -> np.ndarray:
    """Labels (N,) int64 from a file of them, ``y`` of an .npz or of a folder of .npz, or a column: ``x.parquet::label``.

    Raises:
        DataError: Anything wrong with them, such as another number than ``rows``.
    """
    where, part = split(text)
    path, name = Path(where), shown(text)
    paths = _files_of(path, name) if _is_folder(path) else [path]
    kind = paths[0].suffix.lower()
    if _FOLDERS.get(kind, ("",))[0] == "tables" and (part or kind != ".csv"):
        labels = _reader(("tables", "read_column"))(paths, part, name)
    elif part:
        raise DataError(f"{name}: expected '::' after a file of columns, got {kind or 'no ending'!r}; drop it")
    elif paths != [path] and kind == ".npz":
        labels = _joined(paths)
    else:
        values, y = read_file(path)
        labels = values if y is None else y
    return as_labels(labels, rows, name)


def _labels_of_shards(paths: list[Path], rows: int, name: str) -> np.ndarray | None:
    if paths[0].suffix.lower() != ".npz":
        return None
    bare = [path for path in paths if "y" not in npz_header(path)[0]]
    if len(bare) == len(paths):
        return None
    if bare:
        raise DataError(
            f"{shown(bare[0])}: expected labels y in every file of the folder or in none, got none here; add or remove them"
        )
    return as_labels(_joined(paths), rows, f"{name}: y")


def _joined(paths: list[Path]) -> np.ndarray:
    return np.concatenate([read_member(path, "y") for path in paths])


def _reader(home: tuple[str, str]) -> Callable:
    return getattr(import_module(f"deepclust_accel.data.{home[0]}"), home[1])


def _files_of(folder: Path, name: str) -> list[Path]:
    """Files of the one kind that a folder holds, by name; others (notes, checksums) are left alone.

    Images may lie in sub-folders, whose names mean nothing here.
    """
    entries = sorted(e for e in folder.iterdir() if not e.name.startswith((".", "_")))
    kinds = sorted({e.suffix.lower() for e in entries} & set(_FOLDERS))
    images = [] if kinds else sorted(e for e in folder.rglob("*") if e.suffix.lower() in IMAGE_SUFFIXES)
    if images:
        return images
    if len(kinds) != 1:
        got = f"files ending in {' and '.join(kinds)}" if kinds else "none"
        raise DataError(
            f"{name}: expected a folder of images or of files of one kind, {', '.join(_FOLDERS)}, got {got}; put them into "
            "folders of their own, or name one file"
        )
    return [e for e in entries if e.suffix.lower() == kinds[0]]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # let the reader say what is wrong with it


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return True
