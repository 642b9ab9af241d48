"""Finds methods through the entry-point group ``deepclust_accel.methods``; imports one only when it is asked for.

Built-in methods come through the same group as everybody's. A method that cannot be used is a row with its reason in the
listing, and an error only when somebody asks for it by name. The environment variable DCACCEL_PLUGINS, a list of
distribution names between commas, hides all plugins but those; the built-in methods stay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import Field, dataclass, replace
from importlib import metadata

from deepclust_accel.errors import PluginError, nearest

__all__ = ["API_VERSION", "BUILT_IN", "GROUP", "Entry", "entries", "examine", "load", "register"]

GROUP = "deepclust_accel.methods"
API_VERSION = 1
BUILT_IN = "deepclust-accel"
_local: dict[str, type] = {}


@dataclass(frozen=True)
class Entry:
    """One offered method, known from package metadata alone (nothing imported)."""

    name: str
    distribution: str
    version: str
    target: str
    problem: str = ""


def register(cls: type) -> type:
    """Offer a method class in this process only, for notebooks and tests; usable as a decorator.

    Raises PluginError if the name is offered by an installed distribution or by another class; the same class defined
    again, as a notebook cell does, replaces itself.
    """
    name = cls.info.name
    other = _local.get(name, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise PluginError(f"method {name!r}: expected a free name, got that of {other.__qualname__}; choose another")
    taken = _found().get(name)
    if taken:
        raise PluginError(f"method {name!r}: expected a free name, got one offered by {_owners(taken)}; choose another")
    _local[name] = cls
    return cls


def entries() -> list[Entry]:
    """List every offered method by name, without importing any; ``problem`` says why one cannot be used."""
    rows = []
    for name, points in sorted(_found().items()):
        problem = f"offered by {_owners(points)}; uninstall one" if len(points) > 1 else ""
        for point in points:
            rows.append(Entry(name, _owner(point), _version(point), point.value, problem))
    rows += [Entry(name, "this process", "", f"{c.__module__}:{c.__qualname__}") for name, c in sorted(_local.items())]
    return rows


def examine(entry: Entry) -> Entry:
    """The entry with its problem, if importing it shows one."""
    if entry.problem:
        return entry
    try:
        load(entry.name)
    except PluginError as problem:
        return replace(entry, problem=str(problem))
    return entry


def load(name: str) -> type:
    """Import and return the method class of that name.

    Raises:
        PluginError: unknown name (nearest one suggested), offered twice, import failure, or another api_version.
    """
    if not isinstance(name, str):
        raise PluginError(f"method: expected a name, got {name!r}; run 'dcaccel methods list'")
    if name in _local:
        return _checked(name, _local[name], "this process")
    found = _found()
    if name not in found:
        known = [*found, *_local]
        hint = nearest(name, known) or f"; run 'dcaccel methods list' ({', '.join(sorted(known))})"
        raise PluginError(f"method: expected an installed one, got {name!r}{hint}")
    points = found[name]
    if len(points) > 1:
        raise PluginError(f"method {name!r} is offered by {_owners(points)}; uninstall one")
    point = points[0]
    owner = f"{_owner(point)} {_version(point)}, {point.value}"
    try:
        with redirect_stdout(sys.stderr):  # --json promises one object on stdout
            cls = point.load()
    except (Exception, SystemExit) as cause:  # a plugin may raise anything at import; its name is what the user needs
        raise PluginError(f"method {name!r} ({owner}) failed to import: {type(cause).__name__}: {cause}") from cause
    return _checked(name, cls, owner)


def _checked(name: str, cls: type, owner: str) -> type:
    version = getattr(cls, "api_version", None)
    if version != API_VERSION:
        raise PluginError(
            f"method {name!r} ({owner}): expected api_version {API_VERSION}, got {version}; "
            f"install a version of it made for this deepclust_accel"
        )
    missing = [m for m in ("info", "Params", "plan", "embed", "assign") if not hasattr(cls, m)]
    if missing:
        raise PluginError(f"method {name!r} ({owner}): expected a Method, got one without {', '.join(missing)}")
    if bare := [key for key, value in vars(cls.Params).items() if isinstance(value, Field)]:
        raise PluginError(
            f"method {name!r} ({owner}): expected Params to be a dataclass, got {', '.join(bare)} as they are; write "
            "@dataclass above it"
        )
    return cls


def _found() -> dict[str, list[metadata.EntryPoint]]:
    allowed = os.environ.get("DCACCEL_PLUGINS")
    allowed_names = None if allowed is None else {a.strip() for a in allowed.split(",")} | {BUILT_IN}
    found: dict[str, dict[tuple[str, str], metadata.EntryPoint]] = {}
    for point in _points():
        if allowed_names is None or _owner(point) in allowed_names:
            # One distribution can be seen twice (source tree and site-packages); that is not a conflict.
            found.setdefault(point.name, {})[_owner(point), point.value] = point
    return {name: list(points.values()) for name, points in found.items()}


def _points() -> Iterator[metadata.EntryPoint]:
    """Entry points of the group, distribution by distribution: one whose metadata are damaged must not hide the others,
    which metadata.entry_points() would let it do. Of two copies of a distribution the first on the path counts."""
    seen = set()
    for distribution in metadata.distributions():
        try:
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not ours to mend
            continue
        if points and (owner := _owner(points[0])) not in seen:
            seen.add(owner)
            yield from points


def _owner(point: metadata.EntryPoint) -> str:
    return _metadata(point, "Name")


def _version(point: metadata.EntryPoint) -> str:
    return _metadata(point, "Version")


def _metadata(point: metadata.EntryPoint, key: str) -> str:
    try:
        return point.dist.metadata[key] or "unknown"
    except Exception:  # noqa: BLE001 - a folder without a METADATA file
        return "unknown"


def _owners(points: list[metadata.EntryPoint]) -> str:
    return " and ".join(sorted(_owner(p) for p in points))
