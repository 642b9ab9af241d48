"""True classes, for scoring only."""

import numpy as np

from ..errors import DataError

__all__ = ["as_labels"]


def as_labels(labels: np.ndarray, rows: int, what: str) -> np.ndarray:
    """Turn labels (N,) or (N, 1) of integers, booleans, whole floats or text into (N,) int64.

    Numbers are kept; text becomes the number of its place in sorted order.

    Raises:
        DataError: Other length, rank or dtype; ``what`` names them in the message.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,):
        raise DataError(
            f"{what}: expected one label per row, shape ({rows},), got shape {labels.shape}; "
            "save class numbers in the order of the rows"
        )
    kind = labels.dtype.kind
    if kind in "US":
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    if kind in "bui" or (kind == "f" and bool(np.isfinite(labels).all() and (labels == np.round(labels)).all())):
        return labels.astype(np.int64)
    raise DataError(
        f"{what}: expected whole numbers or text, got {labels.dtype} values that are neither; number the classes"
    )
