"""The map: every sampled row a dot in the plane, colored by group, with the group's name written on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepclust_accel.report.chart import Frame, svg, ticks, write
from deepclust_accel.report.markup import Markup, join, tag
from deepclust_accel.report.palette import color_class
from deepclust_accel.report.projection import Plane

__all__ = ["MOST_NAMES", "chips", "point_map", "shorten"]

WIDTH = 1000.0
MOST_NAMES = 120  # more names than this would hide the dots
LAYERS = 6  # dots of a group are spread over layers, so that no group lies on top of all others


def point_map(plane: Plane, groups: np.ndarray, names: Sequence[str], colors: Sequence[int], noun: str) -> Markup:
    """Return the picture.

    Args:
        groups: (S,) index into ``names`` and ``colors``; -1 is drawn in grey.
        noun: what a group is, "cluster" or "label", for tooltips and the description.
    """
    groups = np.asarray(groups)[plane.kept]
    frame = _frame(plane)
    pixels = np.empty((len(plane.points), 2))
    pixels[:, 0] = frame.left + frame.width * _unit(plane.points[:, 0], frame.x_range)
    pixels[:, 1] = frame.bottom - frame.height * _unit(plane.points[:, 1], frame.y_range)
    size = float(np.clip(360 / np.sqrt(max(1, len(groups))), 4.6, 18))
    dots = tag("g", *_dots(pixels, groups, names, colors, noun), class_="dots", stroke_width=size)
    label = (
        f"Map of {len(groups):,} rows, colored by {noun}, {len(set(groups.tolist()))} of {len(names)} {noun}s present"
    )
    return svg(
        WIDTH,
        frame.bottom + 46,
        label,
        _surroundings(frame, plane),
        dots,
        _names(pixels, groups, names, frame),
        class_="map",
    )


def chips(names: Sequence[str], colors: Sequence[int], sizes: Sequence[int], noun: str) -> Markup:
    """Return the legend: one button a group, which shows that group alone on the map above it."""
    buttons = (
        tag(
            "button",
            tag("i", class_=f"swatch {color_class(c)}"),
            shorten(name),
            type="button",
            data_g=g,
            aria_pressed="false",
            title=f"{noun} {name}: {int(size):,} rows",
            class_=None if size else "none",
        )
        for g, (name, c, size) in enumerate(zip(names, colors, sizes, strict=True))
    )
    return tag("div", tag("span", noun), *buttons, class_="chips")


def shorten(name: str, most: int = 12) -> str:
    """Return a name that fits on a picture."""
    return name if len(name) <= most else f"{name[: most - 5]}…{name[-4:]}"


def _frame(plane: Plane) -> Frame:
    low, high = _extent(plane.points[:, 0])
    left, top, width = 46.0, 10.0, WIDTH - 56.0
    if plane.strip:
        lanes = plane.points[:, 1].max(initial=0) + 1
        return Frame(left, top, width, float(np.clip(60 * lanes, 200, 900)), (low, high), (-0.6, max(0.6, lanes - 0.4)))
    bottom, upper = _extent(plane.points[:, 1])
    if not plane.shares and 20 * min(high - low, upper - bottom) < max(high - low, upper - bottom):
        return Frame(left, top, width, 640.0, (low, high), (bottom, upper))  # one value of the code dwarfs the other
    height = float(np.clip(width * (upper - bottom) / (high - low), 0.55 * width, 0.95 * width))
    per_pixel = max((high - low) / width, (upper - bottom) / height)  # equal scale on both axes
    mid_x, mid_y = (low + high) / 2, (bottom + upper) / 2
    return Frame(
        left,
        top,
        width,
        height,
        (mid_x - per_pixel * width / 2, mid_x + per_pixel * width / 2),
        (mid_y - per_pixel * height / 2, mid_y + per_pixel * height / 2),
    )


def _extent(values: np.ndarray) -> tuple[float, float]:
    """Return a range that shows all values, or all but a few far ones when those would squeeze the rest."""
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(v) for v in np.quantile(values, (0.005, 0.995)))
    if high - low > 3 * (inner_high - inner_low) > 0:
        low, high = inner_low, inner_high
    pad = 0.04 * (high - low) or 1.0 + 0.04 * abs(low)
    return low - pad, high + pad


def _unit(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return np.clip((values - limits[0]) / ((limits[1] - limits[0]) or 1.0), 0.0, 1.0)


def _surroundings(frame: Frame, plane: Plane) -> Markup:
    box = tag("rect", x=frame.left, y=frame.top, width=frame.width, height=frame.height, class_="box")
    if plane.strip:
        names = "code", "spread for legibility"
    elif plane.shares:
        names = tuple(f"component {i} · {100 * s:.1f} % of variance" for i, s in enumerate(plane.shares, 1))
    else:
        names = "code 1", "code 2"
    middle = frame.top + frame.height / 2
    parts = [
        box,
        write(frame.left + frame.width / 2, frame.bottom + 36, names[0], "axis-name mid"),
        write(30, middle, names[1], "axis-name mid", transform=f"rotate(-90 30 {middle:.0f})"),
    ]
    for value in [] if plane.shares else ticks(*frame.x_range):
        x = frame.x(value)
        parts.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid"))
        parts.append(write(x, frame.bottom - 8, f"{value:g}", "tick mid"))
    return join(parts)


def _dots(
    pixels: np.ndarray, groups: np.ndarray, names: Sequence[str], colors: Sequence[int], noun: str
) -> list[Markup]:
    """One path a group and layer; a dot is a stroke of no length with round ends, the shortest way to write it."""
    spots = np.round(pixels).astype(np.int64)
    layer = np.arange(len(groups)) % LAYERS
    order = np.lexsort((groups, layer))
    edges = np.flatnonzero(np.diff(layer[order] * (len(names) + 2) + groups[order])) + 1
    paths = []
    for part in np.split(order, edges):
        if not len(part):
            continue
        group = int(groups[part[0]])
        where = np.unique(spots[part], axis=0).tolist()
        name, color = (names[group], color_class(colors[group])) if group >= 0 else ("none", "cx")
        paths.append(
            tag(
                "path",
                tag("title", f"{noun} {name}"),
                d="".join(f"M{x} {y}h0" for x, y in where),
                class_=color,
                data_g=group,
            )
        )
    return paths


def _names(pixels: np.ndarray, groups: np.ndarray, names: Sequence[str], frame: Frame) -> Markup:
    present = [g for g in np.unique(groups).tolist() if g >= 0]
    if not present or len(present) > MOST_NAMES:
        return join([])
    spots = _spread(np.array([np.median(pixels[groups == g], axis=0) for g in present]), frame)
    class_ = "name mid" if len(present) <= 30 else "name small mid"
    return join(
        write(round(float(x)), round(float(y)) + 9, shorten(names[g]), class_, data_g=g)
        for g, (x, y) in zip(present, spots, strict=True)
    )


def _spread(spots: np.ndarray, frame: Frame, gap: tuple[float, float] = (34.0, 26.0)) -> np.ndarray:
    """Push names apart that would cover each other, at most a little, and keep them inside."""
    home, moved = spots, spots.copy()
    for _ in range(40):
        apart = moved[:, None] - moved[None]
        apart[:, :, 1] += 1e-3 * np.subtract.outer(
            np.arange(len(moved)), np.arange(len(moved))
        )  # same spot: some direction
        close = (np.abs(apart) < gap).all(2) & ~np.eye(len(moved), dtype=bool)
        if not close.any():
            break
        push = np.sign(apart[:, :, 1]) * (gap[1] - np.abs(apart[:, :, 1])) / 2 * close
        moved[:, 1] = np.clip(moved[:, 1] + push.sum(1) / np.maximum(close.sum(1), 1), home[:, 1] - 60, home[:, 1] + 60)
    low, high = (frame.left + 16, frame.top + 16), (frame.right - 16, frame.bottom - 16)
    return np.clip(moved, low, high)
