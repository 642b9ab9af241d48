"""Settings as plain dataclasses: declared once with help text, filled from mappings, checked before any work.

A method declares ``class DvaeParams(Params)`` with fields made by :func:`param`. The same declaration gives the
command line its ``--set`` names, ``dcaccel methods show`` its table, scikit-learn its nested parameters and the run
record the origin of every value. Standard library only.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from deepclust_accel.errors import ArgumentError, nearest

__all__ = ["Params", "describe", "from_mapping", "param", "resolve", "to_mapping"]


def param(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    check: Callable[[Any], None] | None = None,
    ranks: Any = None,
) -> Any:
    """A dataclass field with its documentation.

    ``low``/``high`` are inclusive bounds, ``above`` an exclusive one; ``check`` raises ValueError for what else cannot be;
    ``ranks`` is the only value that several processes can have, None: any.
    """
    meta = {"help": help, "unit": unit, "low": low, "high": high, "above": above, "check": check, "ranks": ranks}
    return field(default=default, metadata=meta)


@dataclass
class Params:
    """Base of a method's settings; also speaks scikit-learn's get_params/set_params, so it nests in an estimator."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name (``deep`` is accepted for scikit-learn and changes nothing)."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def set_params(self, **values: Any) -> Params:
        """Set fields by name; an unknown name raises ArgumentError with the nearest one."""
        known = [f.name for f in fields(self)]
        for key, value in values.items():
            if key not in known:
                raise ArgumentError(_unknown(type(self).__name__, key, known))
            setattr(self, key, value)
        return self

    def validate(self) -> None:
        """Check types and bounds of every field; raise one ArgumentError that lists all problems."""
        from_mapping(type(self), to_mapping(self))


def to_mapping(params: Params) -> dict[str, Any]:
    """Return the settings as JSON-able values (tuples become lists)."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in params.get_params().items()}


def resolve(cls: type, layers: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[Any, dict[str, str]]:
    """Merge ``(origin, mapping)`` layers, later ones winning, over the defaults of ``cls``.

    Returns the parameters and, for each name, the origin of its value ("default" where no layer speaks).
    """
    merged: dict[str, Any] = {}
    origin = {f.name: "default" for f in fields(cls)}
    for label, mapping in layers:
        for key, value in mapping.items():
            name = str(key).replace("-", "_")
            merged[name], origin[name] = value, label
    return from_mapping(cls, merged), origin


def from_mapping(cls: type, mapping: Mapping[str, Any]) -> Any:
    """Build ``cls`` from text or typed values, coerced by annotation.

    Raises:
        ArgumentError: names every problem at once (unknown key with the nearest name, wrong type, out of bounds).
    """
    hints, known = typing.get_type_hints(cls), {f.name: f for f in fields(cls)}
    values, problems = {}, []
    for key, value in mapping.items():
        name = str(key).replace("-", "_")
        if name not in known:
            problems.append(_unknown(cls.__name__, str(key), list(known)))
            continue
        try:
            values[name] = _coerce(value, hints[name])
            _check_bounds(values[name], known[name].metadata)
            if check := known[name].metadata.get("check"):
                check(values[name])
        except ValueError as problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise ArgumentError("; ".join(problems))
    return cls(**values)


def describe(cls: type) -> list[dict[str, Any]]:
    """One row a field: name, type, default, unit, help and bounds (for ``methods show`` and the docs)."""
    hints, rows = typing.get_type_hints(cls), []
    for f in fields(cls):
        default = f.default if f.default is not MISSING else None
        rows.append(
            {
                "name": f.name,
                "type": _type_name(hints[f.name]),
                "default": list(default) if isinstance(default, tuple) else default,
                **{key: f.metadata.get(key) for key in ("unit", "help", "low", "high", "above")},
            }
        )
    return rows


def _unknown(owner: str, key: str, known: list[str]) -> str:
    return (
        f"{key}: expected a parameter of {owner}, got an unknown name{nearest(key, known)}"
        if nearest(key, known)
        else f"{key}: expected one of {', '.join(known)}, got an unknown name"
    )


def _coerce(value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        return _coerce(value, next(a for a in args if a is not type(None)))
    if origin is Literal:
        if value in args:
            return value
        hint_text = nearest(str(value), [str(a) for a in args])
        raise ValueError(f"expected one of {', '.join(map(repr, args))}, got {value!r}{hint_text}")
    if origin is tuple:
        parts = [p for p in value.strip("()[] ").replace(" ", ",").split(",") if p] if isinstance(value, str) else value
        if not isinstance(parts, Iterable):
            raise ValueError(f"expected a list of {_type_name(args[0])}, got {value!r}")
        return tuple(_coerce(p, args[0]) for p in parts)
    if hint is bool:
        return _boolean(value)
    if hint in (int, float):
        return _number(value, hint)
    if hint is str and isinstance(value, str):
        return value
    raise ValueError(f"expected {_type_name(hint)}, got {value!r}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"expected true or false, got {value!r}")


def _number(value: Any, kind: type) -> int | float:
    try:
        number = Decimal(str(value))  # whole numbers stay exact; True and None are not numbers
        finite = math.isfinite(float(number))
    except (InvalidOperation, ValueError):
        raise ValueError(f"expected {_type_name(kind)}, got {value!r}") from None
    if not finite:
        raise ValueError(f"expected a finite number, got {value!r}")
    if kind is int and number != number.to_integral_value():
        raise ValueError(f"expected whole number, got {value!r}")
    return kind(number)


def _check_bounds(value: Any, meta: Mapping[str, Any]) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
        if above is not None and not number > above:
            raise ValueError(f"expected more than {above:g}, got {number!r}")
        if low is not None and number < low:
            raise ValueError(f"expected at least {low:g}, got {number!r}")
        if high is not None and number > high:
            raise ValueError(f"expected at most {high:g}, got {number!r}")


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_type_name(args[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if a is type(None) else _type_name(a) for a in args)
    return {int: "whole number", float: "number", bool: "true/false", str: "text"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )
