"""Writes a new plugin: a copy of the working one in ``tiny/`` under another name. Nothing but files; works offline."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from deepclust_accel.errors import ArgumentError, OutputError
from deepclust_accel.methods import registry

__all__ = ["write_plugin"]

TEMPLATE = Path(__file__).parent / "tiny"


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the distribution ``dcaccel-NAME`` to a new folder and return its files.

    Args:
        name: of the method, kebab-case: my-method.
        folder: must not exist.

    Raises:
        ArgumentError: a name of another form, or that of a method that is already there.
        OutputError: the folder exists or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ArgumentError(f"name: expected one like my-method, got {name!r}; use small letters, digits and hyphens")
    owners = [entry.distribution for entry in registry.entries() if entry.name == name]
    if owners:
        raise ArgumentError(
            f"name: expected a free one, got {name!r}, offered by {' and '.join(owners)}; choose another"
        )
    if folder.exists():
        raise OutputError(f"{folder}: expected a new folder, got one that exists; choose another")
    new = []
    try:
        for file in sorted(TEMPLATE.rglob("*.*")):
            if file.is_file() and "__pycache__" not in file.parts:
                to = folder / _renamed(str(file.relative_to(TEMPLATE)), name)
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_text(_renamed(file.read_text(encoding="utf-8"), name), encoding="utf-8")
                new.append(to)
    except OSError as cause:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(
            f"{folder}: expected a folder that can be written, got {cause.strerror}; choose another"
        ) from cause
    return new


def _renamed(text: str, name: str) -> str:
    text = text.replace("_tiny", "_" + name.replace("-", "_"))  # modules
    return text.replace("Tiny", "".join(part.capitalize() for part in name.split("-"))).replace("tiny", name)
