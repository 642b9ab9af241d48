"""Gathers what the page shows from the results of a run, and writes the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepclust_accel.atomic import write_atomic
from deepclust_accel.data import Data
from deepclust_accel.report.content import ReportContent
from deepclust_accel.report.survey import Survey

__all__ = ["write"]

MOST_ROWS = 1 << 20


def write(
    folder: Path,
    record: dict[str, Any],
    history: list[dict],
    labels: np.ndarray,
    probabilities: np.ndarray,
    survey: Survey,
    data: Data,
    truth: np.ndarray | None,
) -> Path:
    """Draw the page of a run and write it atomically as ``folder/report.html``; return its path.

    Args:
        labels (N,), probabilities (N, K), truth (N,) or None: of all rows, in row order; may be memory maps.
        survey: what was kept of the codes.

    Raises:
        OutputError: the disk refuses.
    """
    from deepclust_accel.report import render

    nearest = survey.nearest
    shown = np.where(nearest < 0, 0, nearest)
    examples = data.source.take(shown.reshape(-1)).float().numpy().reshape(*nearest.shape, *data.source.spec.shape)
    counted = _counted(len(labels), survey.rows)
    content = ReportContent(
        run=record,
        history=history,
        labels=np.asarray(labels[counted]),
        confidence=np.asarray(probabilities[counted].max(1)),
        sample=np.searchsorted(counted, survey.rows) if isinstance(counted, np.ndarray) else survey.rows,
        embedding=survey.codes,
        examples=examples,
        example_rows=nearest,
        truth=None if truth is None else truth[counted],
        image_shape=data.image_shape,
        drawn_from=len(labels) if isinstance(counted, np.ndarray) else None,
    )
    path = folder / "report.html"
    write_atomic(path, render(content).encode())
    return path


def _counted(rows: int, shown: np.ndarray) -> np.ndarray | slice:
    """The rows that the page counts, ascending: all, or of more than a million as many drawn at random, and those shown."""
    if rows <= MOST_ROWS:
        return slice(None)
    return np.union1d(np.random.default_rng(0).integers(rows, size=MOST_ROWS), shown)
