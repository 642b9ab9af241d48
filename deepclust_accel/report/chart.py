"""A plotting area in SVG: scales, ticks, grid and labels. Colors and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from deepclust_accel.report.markup import Markup, join, number, tag

__all__ = ["Frame", "bar", "log_ticks", "rule", "svg", "ticks", "write"]


@dataclass(frozen=True)
class Frame:
    """The rectangle in which data is drawn: pixels ``left…left+width`` × ``top…top+height``, y upward."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log: bool = False

    @property
    def bottom(self) -> float:
        """Pixel of the lower edge."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """Pixel of the right edge."""
        return self.left + self.width

    def x(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.x_range
        return self.left + self.width * (value - low) / ((high - low) or 1.0)

    def y(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.y_range
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.bottom - self.height * (value / 2 - low / 2) / (
            (high / 2 - low / 2) or 1.0
        )  # halves cannot overflow

    def y_axis(self, values: list[float], show: Callable[[float], str] = number) -> Markup:
        """Horizontal grid lines with their values on the left."""
        lines = join(
            tag("line", x1=self.left, x2=self.right, y1=self.y(v), y2=self.y(v), class_="grid") for v in values
        )
        return join([lines, *(write(self.left - 5, self.y(v) + 4, show(v), "tick end") for v in values)])

    def x_axis(self, values: list[float], show: Callable[[float], str] = number) -> Markup:
        """Tick values under the lower edge."""
        line = tag("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, class_="axis")
        return join([line, *(write(self.x(v), self.bottom + 14, show(v), "tick mid") for v in values)])


def write(x: float, y: float, text: str, class_: str = "tick", **attributes: object) -> Markup:
    """Return text at a point; classes ``mid`` and ``end`` move its anchor."""
    return tag("text", text, x=x, y=y, class_=class_, **attributes)


def bar(x: float, y: float, width: float, height: float, class_: str, tip: str = "", **attributes: object) -> Markup:
    """Return a rectangle from its upper left corner, with a text for the pointer."""
    note = tag("title", tip) if tip else None
    return tag("rect", note, x=x, y=y, width=width, height=height, class_=class_, **attributes)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str, tip: str = "") -> Markup:
    """Return a straight line, with a text for the pointer."""
    return tag("line", tag("title", tip) if tip else None, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def svg(
    width: float,
    height: float,
    label: str,
    *children: object,
    least: float = 0.0,
    most: float | None = None,
    class_: str = "",
) -> Markup:
    """Return a picture that scales with its column, from ``least`` pixels (then it scrolls) to ``most`` pixels wide."""
    style = f"min-width:{least:.0f}px;" * bool(least) + (f"max-width:{most:.0f}px" if most else "")
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=label,
        class_=class_ or None,
        style=style or None,
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values inside the range, at most about ``most``."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 1e-300 else raw
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)][:50]


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return powers of ten inside the range, thinned to about ``most``."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    return [10.0**e for e in range(first, last + 1, step) if -300 < e < 300] or [low]
