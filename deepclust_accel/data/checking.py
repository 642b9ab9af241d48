"""What is wrong with rows, and which scaling suits them: two streamed passes at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from deepclust_accel.data.loader import shuffle_of
from deepclust_accel.data.source import DataSource, known_rows

__all__ = ["check_rows", "chunks", "describe_source"]

_CHUNK_BYTES = 4 << 20
_LISTED = 20


def describe_source(source: DataSource) -> dict[str, Any]:
    """What is known of a source without looking at its values: a JSON-able dict."""
    rows = known_rows(source)
    first = source.take(np.zeros(1, dtype=np.int64))
    blocks = getattr(source, "blocks", None)
    return {
        "rows": rows,
        "shape": list(source.spec.shape),
        "dtype": str(first.dtype).removeprefix("torch."),
        "bytes": rows * first.numel() * first.element_size(),
        "blocks": None if blocks is None else len(blocks.starts) - 1,
        "shuffle": shuffle_of(source),
    }


def check_rows(source: DataSource) -> dict[str, Any]:
    """Look at every value once, and once more at columns that may be equal.

    Returns:
        A JSON-able dict: ``nan``, ``infinite`` and ``too_large`` (for float32), each with ``count`` and the first ``row``
        and ``column``; ``low`` and ``high``; ``constant`` and ``duplicates`` with ``count`` and the first 20, a duplicate as
        [column, earlier equal column]; ``advice`` with a ``scaling`` and ``why``; ``healthy``: there are only finite values
        and not all columns are constant. Columns are counted through a flattened row.

    Cost: O(N D) time; memory for a chunk of 4 MiB and some numbers a column.
    """
    columns = int(np.prod(source.spec.shape))
    faults = {name: {"count": 0, "row": None, "column": None} for name in ("nan", "infinite", "too_large")}
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    count, mean, square, prints = 0, np.zeros(columns), np.zeros(columns), np.zeros((2, columns))
    generator = np.random.default_rng(0)
    for start, rows in chunks(source):
        values = rows.reshape(len(rows), -1).astype(np.float64)
        _note_faults(faults, values, start)
        finite = np.isfinite(values)
        low = np.minimum(low, np.where(finite, values, np.inf).min(0))
        high = np.maximum(high, np.where(finite, values, -np.inf).max(0))
        values = np.where(finite, values, 0.0)
        prints += generator.normal(size=(2, len(values))) @ values  # equal columns have equal random sums
        added, chunk_mean = len(values), values.mean(0)
        shift = chunk_mean - mean
        square += np.square(values - chunk_mean).sum(0) + np.square(shift) * (count * added / (count + added))
        mean, count = mean + shift * (added / (count + added)), count + added
    constant = np.flatnonzero(~(low < high))
    pairs = _equal_columns(source, prints, constant)
    whole = not any(fault["count"] for fault in faults.values())
    return {
        **faults,
        "low": float(low.min()) if np.isfinite(low.min()) else None,
        "high": float(high.max()) if np.isfinite(high.max()) else None,
        "constant": {"count": len(constant), "columns": constant[:_LISTED].tolist()},
        "duplicates": {"count": len(pairs), "columns": pairs[:_LISTED]},
        "advice": _advice(source, low, high, mean, np.sqrt(square / count), constant),
        "healthy": whole and len(constant) < columns,
    }


def chunks(source: DataSource) -> Iterator[tuple[int, np.ndarray]]:
    """Yield all rows in order, some MiB at a time, with the number of the first."""
    step = max(1, _CHUNK_BYTES // (8 * max(1, int(np.prod(source.spec.shape)))))
    for start in range(0, known_rows(source), step):
        index = np.arange(start, min(start + step, source.spec.rows), dtype=np.int64)
        yield start, source.take(index).cpu().numpy()


def _note_faults(faults: dict[str, dict], values: np.ndarray, start: int) -> None:
    with np.errstate(over="ignore"):
        fits = np.isfinite(values.astype(np.float32))
    if fits.all():
        return
    for name, bad in (
        ("nan", np.isnan(values)),
        ("infinite", np.isinf(values)),
        ("too_large", np.isfinite(values) & ~fits),
    ):
        found = int(bad.sum())
        if found and not faults[name]["count"]:
            row, column = np.argwhere(bad)[0]
            faults[name].update(row=start + int(row), column=int(column))
        faults[name]["count"] += found


def _equal_columns(source: DataSource, prints: np.ndarray, constant: np.ndarray) -> list[list[int]]:
    """[column, earlier column] for all columns that equal an earlier one, apart from constant ones; NaN equals NaN."""
    order = np.lexsort(prints[::-1])
    order = order[~np.isin(order, constant)]
    near = np.isclose(prints[:, order[1:]], prints[:, order[:-1]], rtol=1e-9, atol=0.0).all(0)
    groups = np.split(order, np.flatnonzero(~near) + 1)
    pairs = {(int(b), int(g.min())) for g in groups if len(g) > 1 for b in g if b != g.min()}
    if pairs:
        later, earlier = np.array(sorted(pairs)).T
        same = np.ones(len(later), dtype=bool)
        for _, rows in chunks(source):
            values = rows.reshape(len(rows), -1)
            one, other = values[:, later], values[:, earlier]
            same &= ((one == other) | (one != one) & (other != other)).all(0)
        pairs = set(zip(later[same].tolist(), earlier[same].tolist(), strict=True))
    return [list(pair) for pair in sorted(pairs)]


def _advice(
    source: DataSource, low: np.ndarray, high: np.ndarray, mean: np.ndarray, deviation: np.ndarray, constant: np.ndarray
) -> dict[str, str]:
    varied = np.setdiff1d(np.arange(len(mean)), constant)
    if not len(varied):
        return {"scaling": "none", "why": "no column varies"}
    least, most = float(low[varied].min()), float(high[varied].max())
    if least >= 0 and most <= 1:
        return {"scaling": "none", "why": "all values lie between 0 and 1"}
    if len(source.spec.shape) > 1 or source.take(np.zeros(1, np.int64)).dtype == torch.uint8:
        return {"scaling": "unit", "why": "pixels keep their look in one common range"}
    spread = deviation[varied]
    if spread.max() > 10 * np.median(spread) or spread.min() * 10 < np.median(spread):
        return {"scaling": "standard", "why": f"deviations of columns go from {spread.min():.3g} to {spread.max():.3g}"}
    if np.abs(mean[varied]).max() > 10 * np.median(spread):
        return {"scaling": "standard", "why": f"means of columns reach {np.abs(mean[varied]).max():.3g}, far from 0"}
    if 0.1 <= np.median(spread) <= 10:
        return {"scaling": "none", "why": "columns are centered and spread alike"}
    return {"scaling": "unit", "why": f"columns are alike, with values from {least:.3g} to {most:.3g}"}
