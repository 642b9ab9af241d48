"""The rows nearest to each center: pictures where rows are images, otherwise the features that set them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepclust_accel.report.content import ReportContent
from deepclust_accel.report.facts import Facts, entry
from deepclust_accel.report.markup import Markup, count, join, number, percent, table, tag
from deepclust_accel.report.palette import color_class
from deepclust_accel.report.png import data_uri

__all__ = ["as_images", "cards", "feature_table", "heading"]

BUDGET = 900_000  # bytes of pictures on a page, about
LONGEST = 64  # pixels of a picture's longer side
FEW = 4  # pictures a cluster that are worth more than sharper ones
OPEN_CARDS = 40  # clusters shown at once; the others wait behind a click
FEATURES = 5


def cards(content: ReportContent, facts: Facts) -> Markup:
    """Return a card of pictures for every cluster that has rows."""
    tiles = as_images(content)
    numbers = np.asarray(content.example_rows)
    made = [_card(k, facts, tiles[k], numbers[k]) for k in range(min(facts.clusters, len(tiles))) if facts.sizes[k]]
    shown, rest = made[:OPEN_CARDS], made[OPEN_CARDS:]
    parts = [tag("div", *shown, class_="cards")]
    if rest:
        parts.append(
            tag(
                "details",
                tag("summary", f"Show the other {count(len(rest), 'cluster')}"),
                tag("div", *rest, class_="cards"),
            )
        )
    return join(parts)


def as_images(content: ReportContent) -> np.ndarray:
    """Return the examples as bytes (K, M', H, W, 1 | 3 | 4), reduced until all of them fit on the page."""
    images = np.asarray(content.examples, dtype=np.float32)
    images = _channels_last(images.reshape(*images.shape[:2], *content.image_shape), len(content.image_shape))
    known = images[np.isfinite(images)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    images = (np.nan_to_num(images, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    side = LONGEST
    images = _reduce(images, side)
    while side > 24 and images[:, :FEW].size > BUDGET:
        side //= 2
        images = _reduce(images, side)
    most = max(1, int(BUDGET / max(1, images[:, :1].size)))
    return np.round(images[:, :most] * 255).astype(np.uint8)


def _channels_last(images: np.ndarray, dimensions: int) -> np.ndarray:
    if dimensions == 2:
        return images[..., None]
    first, last = images.shape[2], images.shape[4]
    if last not in (1, 3, 4) and first in (1, 3, 4):
        images = np.moveaxis(images, 2, -1)
    return images if images.shape[4] in (1, 3, 4) else images.mean(4, keepdims=True)


def _reduce(images: np.ndarray, side: int) -> np.ndarray:
    """Average blocks so that no side is longer than ``side``."""
    clusters, each, height, width, channels = images.shape
    block = -(-max(height, width) // side)
    if block <= 1:
        return images
    high, wide = max(1, height // block), max(1, width // block)
    by, bx = min(block, height), min(block, width)
    cut = images[:, :, : high * by, : wide * bx]
    return cut.reshape(clusters, each, high, by, wide, bx, channels).mean((3, 5))


def _card(k: int, facts: Facts, tiles: np.ndarray, numbers: np.ndarray) -> Markup:
    images = []
    for tile, row in zip(tiles, numbers.tolist(), strict=False):
        if row >= 0:
            pixelated = "pixels" if max(tile.shape[:2]) < 48 else None
            images.append(
                tag(
                    "img",
                    src=data_uri(tile),
                    alt=f"row {row}",
                    title=f"row {row}",
                    width=tile.shape[1],
                    height=tile.shape[0],
                    class_=pixelated,
                )
            )
    across = len(images) if len(images) <= 5 else min(8, -(-len(images) // 2))
    # Room for five, so that the pictures of a small cluster are as large as those of the others.
    style = f"grid-template-columns:repeat({max(5, across)},1fr)"
    return tag(
        "article", heading(k, facts), tag("div", *images, class_="tiles", style=style), class_=f"card {color_class(k)}"
    )


def heading(k: int, facts: Facts) -> Markup:
    """Return the name of a cluster with its size, confidence and, when labels are known, what is in it."""
    words = f"{count(facts.sizes[k], 'row')} · mean confidence {facts.certainty[k]:.2f}"
    mostly = _mostly(k, facts)
    return join([tag("h3", f"Cluster {k}"), tag("p", f"{words} · {mostly}" if mostly else words)])


def _mostly(k: int, facts: Facts) -> str:
    if facts.truth is None or not facts.truth.counts[:, k].sum():
        return ""
    column = facts.truth.counts[:, k]
    return f"{percent(column.max(), column.sum())} label {facts.truth.names[int(column.argmax())]}"


def feature_table(content: ReportContent, facts: Facts) -> Markup:
    """Return a line for every cluster: the features in which its examples stand out, and their row numbers."""
    rows = np.asarray(content.example_rows)
    values = np.asarray(content.examples, dtype=np.float64)
    values = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    shown = rows >= 0
    known = values[shown]
    overall, spread = (known.mean(0), known.std(0)) if len(known) else (np.zeros(values.shape[2]),) * 2
    names = _feature_names(content, values.shape[2])
    labeled, lines = facts.truth is not None, []
    for k in range(min(facts.clusters, len(values))):
        name = join([tag("i", class_=f"swatch {color_class(k)}"), str(k)])
        if not shown[k].any():
            lines.append((name, count(facts.sizes[k]), *([""] if labeled else []), "no examples", ""))
            continue
        mean = values[k][shown[k]].mean(0)
        score = np.divide(mean - overall, spread, out=np.zeros_like(mean), where=spread > 0)
        score = np.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0)
        top = [i for i in np.argsort(-np.abs(score), kind="stable")[:FEATURES].tolist() if score[i]]
        marks = [_mark(names[i], float(score[i]), float(mean[i]), float(overall[i])) for i in top]
        lines.append(
            (
                name,
                count(facts.sizes[k]),
                *([_mostly(k, facts)] if labeled else []),
                join(marks) if marks else "none",
                ", ".join(str(r) for r in rows[k][shown[k]].tolist()[:8]),
            )
        )
    head = (
        "cluster",
        "rows",
        *(["mostly"] if labeled else []),
        "features that stand out: mean of the examples (mean over all examples)",
        "nearest rows",
    )
    shown_first = table(head, lines[:OPEN_CARDS], class_="features")
    if len(lines) <= OPEN_CARDS:
        return shown_first
    more = tag("summary", f"Show the other {count(len(lines) - OPEN_CARDS, 'cluster')}")
    return join([shown_first, tag("details", more, table(head, lines[OPEN_CARDS:], class_="features"))])


def _mark(name: str, score: float, mean: float, overall: float) -> Markup:
    arrow = tag("span", "▲" if score > 0 else "▼", class_="up" if score > 0 else "down")
    return tag("span", tag("b", name), " ", arrow, f" {number(mean, 3)} ({number(overall, 3)})", class_="tag")


def _feature_names(content: ReportContent, size: int) -> Sequence[str]:
    given = entry(content.run, "data", "feature_names")
    if isinstance(given, (list, tuple)) and len(given) == size:
        return [str(n) for n in given]
    shape = np.asarray(content.examples).shape[2:]
    if len(shape) <= 1:
        return [f"x{i}" for i in range(size)]
    return ["x[" + ",".join(map(str, np.unravel_index(i, shape))) + "]" for i in range(size)]
