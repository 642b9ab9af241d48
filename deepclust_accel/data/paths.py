"""Paths that users give: how messages show them, and what is wrong with the file behind one.

Whatever a library raises on a damaged file becomes one DataError here, since those types tell a user nothing and are
many (BadZipFile, EOFError, zlib.error, UnicodeDecodeError, MemoryError …).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, nearest

__all__ = ["PLAIN_SUFFIXES", "brief", "check_file", "shown", "translated"]

PLAIN_SUFFIXES = (".npy", ".npz", ".csv")


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
            found = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in PLAIN_SUFFIXES)
            hint = f"such as {path / found[0]}" if found else f"ending in {', '.join(PLAIN_SUFFIXES)}"
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
        raise DataError(f"{what}: expected a readable path, got {brief(cause)}; check it") from cause


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
        raise DataError(f"{what}: expected a readable file, got {brief(cause)}; check permissions and disk") from cause
    except Exception as cause:  # see the module docstring: a damaged file can raise nearly anything
        raise DataError(
            f"{what}: expected a whole {suffix} file, got a damaged one ({brief(cause)}); write or copy it again"
        ) from cause


def brief(cause: BaseException) -> str:
    """The first line of an error, short; its type where it says nothing."""
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    text = " ".join(text.split())[:160]
    return os.fsdecode(text) if text else type(cause).__name__
