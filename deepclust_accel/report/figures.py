"""The charts of a report, one function a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepclust_accel.report.chart import Frame, bar, log_ticks, rule, svg, ticks, write
from deepclust_accel.report.facts import Facts, Truth
from deepclust_accel.report.markup import Markup, count, join, number, percent, tag
from deepclust_accel.report.palette import color_class
from deepclust_accel.report.png import data_uri
from deepclust_accel.report.scatter import shorten

__all__ = ["WIDE", "Span", "confidence", "confusion", "curve", "sizes"]

Span = tuple[str, int, int]  # a stage and its epochs on the common axis, [first, last)
WIDE = 30  # clusters above which the bars take the width of the page
MOST_POINTS = 600  # of a curve; longer ones keep the smallest and the largest value of each stretch
MOST_WRITTEN = 20  # classes up to which the confusion matrix carries numbers
MOST_CELLS = 60  # and up to which its cells are drawn one by one


def curve(term: str, values: Sequence[float | None], spans: Sequence[Span]) -> Markup:
    """A logged term over all epochs, stages as shaded bands; None where it was not logged."""
    known = [(e, float(v)) for e, v in enumerate(values) if v is not None]
    finite = [(e, v) for e, v in known if math.isfinite(v)]
    low, high = min((v for _, v in finite), default=0.0), max((v for _, v in finite), default=1.0)
    log = low > 0 and high / low >= 50
    if log:
        limits = (max(low / 1.15, 5e-324), min(high * 1.15, 1.7e308))
    else:
        pad = 0.06 * (high / 2 - low / 2) * 2 or 0.5 * abs(high) or 1.0
        limits = (max(low - pad, -1.7e308), min(high + pad, 1.7e308))
    frame = Frame(52, 18, 296, 136, (0.5, max(1.5, len(values) + 0.5)), limits, log)
    y_ticks = log_ticks(*limits, 4) if log else ticks(*limits, 4)
    x_ticks = [v for v in ticks(*frame.x_range, 5) if v >= 1 and float(v).is_integer()] or [1]
    broken = [
        tag(
            "path",
            tag("title", f"epoch {e + 1}: not finite"),
            d=f"M{frame.x(e + 1):.1f} {frame.bottom - 1:.1f}l-4 -8h8z",
            class_="broken",
        )
        for e, v in known
        if not math.isfinite(v)
    ]
    label = f"{term} over {count(len(values), 'epoch')}" + (
        f", last {number(finite[-1][1])}" if finite else ", no finite value"
    )
    return svg(
        360,
        186,
        label,
        _bands(frame, spans),
        frame.y_axis(y_ticks),
        frame.x_axis(x_ticks),
        write(frame.right, 183, "epoch", "tick end"),
        write(4, 11, "log scale", "tick") if log else None,
        *_lines(frame, finite, spans),
        *broken[:200],
    )


def _bands(frame: Frame, spans: Sequence[Span]) -> Markup:
    parts = []
    for place, (name, first, last) in enumerate(spans):
        x, right = frame.x(first + 0.5), frame.x(last + 0.5)
        parts.append(
            tag(
                "rect",
                tag("title", f"{place + 1} {name}: {count(last - first, 'epoch')}"),
                x=x,
                y=frame.top,
                width=right - x,
                height=frame.height,
                class_=f"band{place % 2}",
            )
        )
        title = f"{place + 1} {name}"
        if len(title) * 6.2 > right - x:
            title = str(place + 1) if right - x > 9 else ""
        parts.append(write((x + right) / 2, frame.top - 5, title, "tick mid"))
    return join(parts)


def _lines(frame: Frame, finite: list[tuple[int, float]], spans: Sequence[Span]) -> list[Markup]:
    """One line a stage, broken where a value is missing; a dot where a line would have no length."""
    parts = []
    for _, first, last in spans:
        run: list[tuple[int, float]] = []
        for epoch, value in [p for p in finite if first <= p[0] < last] + [(-9, 0.0)]:
            if run and epoch != run[-1][0] + 1:
                shown = _thin(run)
                spots = [(frame.x(e + 1), frame.y(v)) for e, v in shown]
                if len(run) <= 12:
                    parts += [
                        tag("circle", tag("title", f"epoch {e + 1}: {number(v)}"), cx=x, cy=y, r=2.2, class_="line-dot")
                        for (x, y), (e, v) in zip(spots, shown, strict=True)
                    ]
                if len(run) > 1:
                    parts.append(tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots), class_="line"))
                run = []
            run.append((epoch, value))
    return parts


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= MOST_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / MOST_POINTS)
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def sizes(facts: Facts) -> Markup:
    """Rows of every cluster as bars, its mean confidence as dots under them."""
    n = facts.clusters
    wide = n > WIDE
    pitch = float(np.clip((1180 if wide else 450) / n, 6, 90))
    top = float(max(facts.sizes.max(initial=0), 1))
    bars = Frame(58, 20, pitch * n, 190, (0, n), (0, 1.08 * top))
    dots = Frame(58, 256, pitch * n, 60, (0, n), (0, 1))
    even = bars.y(facts.rows / n)
    parts = [
        bars.y_axis([t for t in ticks(0, top, 4) if t.is_integer()], _brief),
        dots.y_axis([0, 0.5, 1]),
        write(0, 12, "rows"),
        write(0, 246, "mean confidence"),
        rule(bars.left, even, bars.right, even, "mark", f"equal share: {facts.rows / n:,.1f} rows"),
    ]
    every = max(1, math.ceil((18 if n < 100 else 26) / pitch))
    for k in range(n):
        parts += _one_size(facts, k, bars, dots, pitch)
        if k % every == 0:
            parts.append(write(bars.x(k + 0.5), bars.bottom + 15, str(k), "tick mid"))
    least, most = int(facts.sizes.min()), int(facts.sizes.max())
    natural = bars.right + 6
    return svg(
        natural,
        324,
        f"Bar chart of the rows in {count(n, 'cluster')}, from {least:,} to {most:,}",
        *parts,
        least=0.75 * natural if wide else 0.0,
        most=max(640.0, 1.1 * natural),
        class_="chart",
    )


def _one_size(facts: Facts, k: int, bars: Frame, dots: Frame, pitch: float) -> list[Markup]:
    rows, mean, middle = int(facts.sizes[k]), float(facts.certainty[k]), bars.x(k + 0.5)
    if not rows:
        return [write(middle, bars.bottom - 3, "✕", "empty mid")]
    tip = f"cluster {k}: {count(rows, 'row')} ({percent(rows, facts.rows)}), mean confidence {mean:.3f}"
    parts = [
        bar(bars.x(k + 0.1), bars.y(rows), 0.8 * pitch, bars.bottom - bars.y(rows), f"bar {color_class(k)}", tip),
        tag(
            "circle",
            tag("title", tip),
            cx=middle,
            cy=dots.y(mean),
            r=min(4.0, 0.38 * pitch),
            class_=f"spot {color_class(k)}",
        ),
    ]
    if pitch >= 8.5 * len(f"{rows:,}"):
        parts.append(write(middle, bars.y(rows) - 3, f"{rows:,}", "tick mid halo"))
    return parts


def confidence(values: np.ndarray, matched: np.ndarray | None, clusters: int) -> Markup:
    """Histogram of the largest probability of every row; split by whether the row's cluster matches its label."""
    values = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0), 0.0, 1.0)
    bins = 25
    place = np.minimum((values * bins).astype(np.intp), bins - 1)
    total = np.bincount(place, minlength=bins)
    good = total if matched is None else np.bincount(place[matched], minlength=bins)
    top = float(max(total.max(initial=0), 1))
    frame = Frame(58, 20, 446, 250, (0, bins), (0, top))
    parts = [frame.y_axis([t for t in ticks(0, top, 4) if t.is_integer()], _brief)]
    for b in range(bins):
        tip = f"{b / bins:.2f} to {(b + 1) / bins:.2f}: {count(total[b], 'row')}"
        if matched is not None and total[b]:
            tip += f", {percent(good[b], total[b])} in the matched cluster"
        for low, high, name in ((0, good[b], "hit"), (good[b], total[b], "miss")):
            if high > low:
                parts.append(
                    bar(
                        frame.x(b + 0.03),
                        frame.y(high),
                        0.94 * frame.width / bins,
                        frame.y(low) - frame.y(high),
                        name,
                        tip,
                    )
                )
    chance = frame.x(bins / clusters)
    middle = f", median {number(np.median(values), 3)}" if len(values) else ", no rows"
    return svg(
        516,
        316,
        f"Histogram of confidence{middle}",
        *parts,
        rule(chance, frame.top, chance, frame.bottom, "mark", f"1/K = {1 / clusters:.3g}, no preference at all"),
        write(chance + 4, frame.top + 11, "1/K"),
        write(0, 12, "rows"),
        frame.x_axis([b * bins / 4 for b in range(5)], lambda b: f"{b / bins:g}"),
        write(frame.right, 309, "confidence", "tick end"),
        most=640,
        class_="chart",
    )


def confusion(truth: Truth) -> Markup:
    """Labels in rows, clusters in columns, matched pairs on the diagonal; shade is the share of the label's rows."""
    rows, columns = len(truth.names), len(truth.columns)
    largest = max(rows, columns)
    cell = (
        34.0
        if largest <= 12
        else 27.0
        if largest <= MOST_WRITTEN
        else 13.0
        if largest <= MOST_CELLS
        else max(3.0, 700 / largest)
    )
    left = 22 + 6.3 * max(len(shorten(n)) for n in truth.names)
    table = truth.counts[:, truth.columns]
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    frame = Frame(left, 6, cell * columns, cell * rows, (0, columns), (rows, 0))
    body = _cells(truth, table, share, frame, cell) if largest <= MOST_CELLS else _shades(truth, share, frame)
    every = max(1, math.ceil(11 / cell))
    parts = [
        write(left - 5, frame.top + cell * (i + 0.5) + 4, shorten(name), "tick end")
        for i, name in enumerate(truth.names)
        if i % every == 0
    ]
    every = max(1, math.ceil((19 if columns > 100 else 14) / cell))
    parts += [
        write(left + cell * (j + 0.5), frame.bottom + 13, str(k), "tick mid")
        for j, k in enumerate(truth.columns)
        if j % every == 0
    ]
    middle = frame.top + frame.height / 2
    parts += [
        write(left + frame.width / 2, frame.bottom + 29, "cluster", "tick mid"),
        write(10, middle, "given label", "tick mid", transform=f"rotate(-90 10 {middle:.0f})"),
    ]
    natural = frame.right + 8
    label = f"Confusion matrix of {count(rows, 'label')} and {count(columns, 'cluster')}"
    return svg(
        natural,
        frame.bottom + 34,
        label,
        tag("rect", x=left, y=frame.top, width=frame.width, height=frame.height, class_="box"),
        body,
        *parts,
        least=min(natural, 0.7 * natural + 100),
        most=max(1.7 * natural if largest <= 12 else 1.25 * natural, 300),
    )


def _cells(truth: Truth, table: np.ndarray, share: np.ndarray, frame: Frame, cell: float) -> Markup:
    parts = []
    for i, j in np.argwhere(table > 0).tolist():
        k, part = truth.columns[j], float(share[i, j])
        x, y = frame.left + cell * j, frame.top + cell * i
        kind = "hit" if truth.cluster.get(i) == k else "miss"
        tip = tag(
            "title", f"label {truth.names[i]}, cluster {k}: {count(table[i, j], 'row')}, {percent(part)} of the label"
        )
        parts.append(
            tag(
                "rect",
                tip,
                x=x + 0.5,
                y=y + 0.5,
                width=cell - 1,
                height=cell - 1,
                class_=kind,
                fill_opacity=0.08 + 0.92 * part,
            )
        )
        if max(table.shape) <= MOST_WRITTEN:
            tone = "inverse" if part > 0.62 else "ink"
            both = cell >= 34
            parts.append(
                write(x + cell / 2, y + cell / 2 + (0 if both else 3.5), _brief(int(table[i, j])), f"count mid {tone}")
            )
            if both:
                parts.append(
                    write(
                        x + cell / 2,
                        y + cell / 2 + 10,
                        percent(round(part, 2)) if part >= 0.005 else "< 1 %",
                        f"share mid {tone}",
                    )
                )
    return join(parts)


def _shades(truth: Truth, share: np.ndarray, frame: Frame) -> Markup:
    """One pixel a cell: many cells as elements would make a page that no one can scroll."""
    pixels = np.zeros((*share.shape, 4), np.uint8)
    pixels[:, :, :3] = (217, 119, 37)
    for i, k in truth.cluster.items():
        pixels[i, truth.columns.index(k), :3] = (46, 120, 196)
    pixels[:, :, 3] = np.where(share > 0, 15 + 240 * share, 0)
    return tag(
        "image",
        href=data_uri(pixels),
        x=frame.left,
        y=frame.top,
        width=frame.width,
        height=frame.height,
        preserveAspectRatio="none",
        class_="pixels",
    )


def _brief(rows: float) -> str:
    """Return a count in at most five letters or so."""
    return (
        count(rows)
        if rows < 10_000
        else f"{rows / 1000:g}k"
        if rows < 1e6 and not rows % 1000
        else f"{rows / 1000:.0f}k"
        if rows < 1e6
        else f"{rows / 1e6:.1f}M".replace(".0M", "M")
    )
