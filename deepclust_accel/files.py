"""Files that are whole or absent."""

import contextlib
import os
from pathlib import Path

from deepclust_accel.errors import OutputError

__all__ = ["write_atomic"]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete under its name or absent; OutputError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as cause:
        raise OutputError(
            f"{path}: expected a writable disk, got {cause.strerror}; free space and run it again, or choose another --out"
        ) from cause
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
