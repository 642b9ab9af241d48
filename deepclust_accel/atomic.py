"""Files that are whole or absent."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deepclust_accel.errors import OutputError

__all__ = ["checksum", "left_over", "replacing", "sweep", "sync_folder", "write_atomic"]

_LEFT = re.compile(r"\.(.+\.)?\d+\.(tmp|probe)")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete under its name or absent; OutputError when the disk refuses."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` for a new file or folder, which takes its name when the block ends well and else is removed.

    Raises:
        OutputError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        for written in temporary.iterdir() if temporary.is_dir() else [temporary]:
            with open(written, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as cause:
        if isinstance(cause, OutputError):
            raise
        raise OutputError(
            f"{path}: expected a writable disk, got {cause.strerror or cause}; free space and run it again, or choose "
            "another --out"
        ) from cause
    finally:
        with contextlib.suppress(OSError):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """32 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk, so that a new one survives a power cut; not every file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def left_over(path: Path) -> bool:
    """Whether this is by its name what a process was writing when it was killed."""
    return bool(_LEFT.fullmatch(path.name))


def sweep(folder: Path) -> None:
    """Remove what killed processes were writing."""
    for path in folder.glob(".*"):
        if left_over(path) and path.is_dir():
            shutil.rmtree(path)
        elif left_over(path):
            path.unlink()
