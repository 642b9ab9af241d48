"""Pictures of the quality bench: bars with spread, ACC over time, mean ranks."""

from __future__ import annotations

import math
from typing import Any

from deepclust_accel.bench.quality.grid import BASELINES
from deepclust_accel.report.chart import Frame, bar, rule, svg, ticks, write
from deepclust_accel.report.markup import Markup, join, number, tag

__all__ = ["bars", "over_time", "ranks"]

_LINE = 24  # pixels a method
_LETTER = 7.2  # pixels, about


def _name(row: dict[str, Any]) -> str:
    """The label of a row, with its share of the epochs."""
    return row["label"] + (f" ×{row['epochs_scale']:g}" if row["epochs_scale"] != 1 else "")


def bars(rows: list[dict[str, Any]]) -> Markup:
    """Mean ACC of one data set's methods, standard deviation as a whisker, a dot a seed, published numbers as diamonds."""
    left = 16 + _LETTER * max(len(_name(row)) for row in rows)
    frame = Frame(left, 6, 660 - left, _LINE * len(rows), (0.0, 100.0), (0.0, 1.0))
    parts: list[Any] = [
        frame.x_axis([0, 20, 40, 60, 80, 100]),
        write(frame.right, frame.bottom + 28, "ACC %", "tick end"),
    ]
    parts += [rule(frame.x(v), frame.top, frame.x(v), frame.bottom, "grid") for v in (20, 40, 60, 80, 100)]
    for place, row in enumerate(rows):
        y, acc = frame.top + _LINE * (place + 0.5), row["acc"]
        mean, tip = 100 * acc["mean"], f"{_name(row)}: {100 * acc['mean']:.1f} over {len(row['seeds'])} seeds"
        color = "c0" if row["label"] in BASELINES else "c1"
        parts.append(write(left - 6, y + 4, _name(row), "tick end"))
        parts.append(bar(left, y - 7, frame.x(mean) - left, 14, f"bar {color}", tip, opacity=0.55))
        if acc["std"] is not None:
            low, high = (min(100.0, max(0.0, mean + side * 100 * acc["std"])) for side in (-1, 1))
            parts.append(rule(frame.x(low), y, frame.x(high), y, "axis"))
        parts += [tag("circle", cx=frame.x(100 * v), cy=y, r=2.2, class_=f"spot {color}") for v in acc["values"]]
        for quote in row["published"]:
            note = tag("title", f"{quote['acc']:g} in {quote['paper']}, {quote['where']}")
            parts.append(
                tag("path", note, d=f"M{frame.x(quote['acc']):.1f} {y - 7:.1f}l5 7l-5 7l-5 -7z", class_="line")
            )
    return svg(680, frame.bottom + 34, f"ACC of {len(rows)} methods", *parts, least=420, most=900, class_="chart")


def over_time(rows: list[dict[str, Any]]) -> Markup:
    """Mean ACC over the median seconds of a fit, time on a log scale, a labelled dot a method."""
    points = [(math.log10(max(row["seconds"], 0.01)), 100 * row["acc"]["mean"], row) for row in rows]
    first, last = math.floor(min(p[0] for p in points)), math.ceil(max(p[0] for p in points) + 0.01)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    pad = max(2.0, 0.06 * (high - low))
    frame = Frame(44, 22, 540, 340, (first, last), (low - pad, high + pad))
    parts: list[Any] = [
        frame.y_axis(ticks(*frame.y_range, 6)),
        frame.x_axis(list(range(first, last + 1)), lambda power: number(10.0**power)),
        write(frame.right, frame.bottom + 30, "seconds of a fit on one thread, log scale", "tick end"),
        write(4, 12, "ACC %"),
    ]
    taken: list[tuple[float, float, float]] = []  # left, right, y of the names so far
    for time, acc, row in sorted(points, key=lambda p: -p[1]):
        x, y, name = frame.x(time), frame.y(acc), _name(row)
        color = "c0" if row["label"] in BASELINES else "c1"
        tip = tag("title", f"{name}: {acc:.1f} in {number(row['seconds'], 3)} s")
        start, end = x + 7, x + 7 + _LETTER * len(name)
        at = y + 4
        while any(start < right and end > left and abs(at - other) < 13 for left, right, other in taken):
            at += 3
        taken.append((start, end, at))
        parts += [tag("circle", tip, cx=x, cy=y, r=4, class_=f"spot {color}"), write(start, at, name)]
    return svg(700, frame.bottom + 36, "ACC over seconds", *parts, least=420, most=900, class_="chart")


def ranks(found: dict[str, Any]) -> Markup:
    """Mean rank of each method, the best on top; with a critical difference, as a bar from the best."""
    names = list(found["ranks"])
    left = 16 + _LETTER * max(map(len, names))
    frame = Frame(left, 24, 660 - left, _LINE * len(names), (1.0, float(max(2, len(names)))), (0.0, 1.0))
    parts: list[Any] = [frame.x_axis([float(v) for v in range(1, len(names) + 1)])]
    parts.append(write(frame.right, frame.bottom + 28, "mean rank of ACC, 1 the best", "tick end"))
    for place, (name, rank) in enumerate(found["ranks"].items()):
        y = frame.top + _LINE * (place + 0.5)
        color = "c0" if name in BASELINES else "c1"
        parts += [write(left - 6, y + 4, name, "tick end"), rule(left, y, frame.right, y, "grid")]
        parts.append(
            tag("circle", tag("title", f"{name}: {rank:.2f}"), cx=frame.x(rank), cy=y, r=5, class_=f"spot {color}")
        )
    width = found["critical_difference"]
    if width:
        best = frame.x(found["ranks"][names[0]])
        end = min(frame.right, best + frame.x(1 + width) - frame.x(1.0))
        note = f"critical difference {width:.2f}: within it of the best"
        parts += [bar(best, frame.top - 8, end - best, 5, "bar c0", note), write(best, frame.top - 12, note)]
    return svg(680, frame.bottom + 34, f"Mean ranks: {join(names, ', ')}", *parts, least=420, most=900, class_="chart")
