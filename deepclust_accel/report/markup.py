"""HTML and SVG text in which everything that is not markup is escaped.

Text from a user (a path, a parameter value, a label) can only reach the page as an ordinary ``str``, and :func:`tag`
escapes those. What is already markup says so by its type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

__all__ = ["Markup", "count", "join", "number", "percent", "plain", "table", "tag"]

_VOID = frozenset(("br", "hr", "img", "input", "link", "meta"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Return an element; children that are not Markup are escaped, attributes that are None are left out.

    A trailing underscore frees Python's keywords (``class_``), other underscores become hyphens.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
            parts.append(f' {key}="{escape(plain(value), quote=True)}"')
    parts.append(">")
    if name not in _VOID:
        parts += [join(children), f"</{name}>"]
    return Markup("".join(parts))


def join(children: Iterable[Any], separator: str = "") -> Markup:
    """Put pieces together, escaping those that are not Markup; None is left out."""
    return Markup(separator.join(c if isinstance(c, Markup) else escape(plain(c)) for c in children if c is not None))


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]], *, class_: str | None = None) -> Markup:
    """Return a table in which the first cell of a row is its header; a row given as a tag is taken as it is."""
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    lines = [row if isinstance(row, Markup) else _row(row) for row in rows]
    return tag("div", tag("table", header, tag("tbody", *lines), class_=class_), class_="scroll")


def _row(cells: Iterable[Any]) -> Markup:
    first, *rest = cells
    return tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))


def plain(value: Any) -> str:
    """Return a value as text: drawing coordinates to a hundredth, lists without quotes, the rest as str."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def number(value: Any, digits: int = 4) -> str:
    """Return a quantity for people: significant digits, thousands apart, an exponent for very large and small ones."""
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:.{digits - 2}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e").replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    text = f"{value:,.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def count(value: Any, noun: str = "") -> str:
    """Return a whole number with its noun: ``1 row``, ``1,797 rows``."""
    text = f"{int(value):,}"
    return f"{text} {noun}{'' if int(value) == 1 else 's'}" if noun else text


def percent(part: float, whole: float = 1.0) -> str:
    """Return a share; what is neither nothing nor everything is never rounded to it."""
    share = 100.0 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %".replace(".0 %", " %").replace("-", "−")
