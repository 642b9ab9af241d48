"""From codes to the plane of the map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Plane", "project"]

_DIRECT = 512  # up to this many values a code, the covariance is decomposed exactly


@dataclass(frozen=True)
class Plane:
    """Where the rows of the map lie.

    Attributes:
        points: (S, 2).
        kept: (S,) rows whose code is finite; the others are not drawn.
        shares: shares of the variance that the two axes show; empty when the axes are the code itself.
        size: values a code has.
    """

    points: np.ndarray
    kept: np.ndarray
    shares: tuple[float, ...]
    size: int

    @property
    def strip(self) -> bool:
        """Whether the code is one number, so that the second axis carries no meaning."""
        return self.size == 1


def project(codes: np.ndarray) -> Plane:
    """Place codes in the plane: two values as they are, one value on a line, more by principal components.

    The same codes always give the same plane: the largest entry of each component is made positive.
    """
    codes = np.asarray(codes, dtype=np.float64)
    codes = codes.reshape(len(codes), math.prod(codes.shape[1:]))
    kept, size = np.isfinite(codes).all(1), codes.shape[1]
    codes = codes[kept]
    if size <= 2:
        points = np.zeros((len(codes), 2))
        points[:, :size] = codes
        return Plane(points, kept, (), size)
    centered = codes - codes.mean(0) if len(codes) else codes
    peak = np.abs(centered).max(initial=0.0)
    if not peak:
        return Plane(np.zeros((len(codes), 2)), kept, (0.0, 0.0), size)
    scaled = centered / peak  # squares of huge values would overflow
    axes = _leading(scaled)
    points = scaled @ axes
    total = (scaled**2).sum()
    return Plane(points * peak, kept, tuple(float(s) for s in (points**2).sum(0) / total), size)


def _leading(x: np.ndarray) -> np.ndarray:
    """Return the two leading right singular vectors of x (S, Z) as (Z, 2)."""
    if x.shape[1] <= _DIRECT:
        basis = np.linalg.eigh(x.T @ x)[1][:, ::-1]
    else:  # subspace iteration with spare columns; a fixed start keeps the picture the same
        basis = np.random.default_rng(0).standard_normal((x.shape[1], 12))
        for _ in range(12):
            basis = np.linalg.qr(x.T @ (x @ basis))[0]
        basis = basis @ np.linalg.eigh((x @ basis).T @ (x @ basis))[1][:, ::-1]
    axes = basis[:, :2]
    signs = np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return axes * np.where(signs == 0, 1, signs)
