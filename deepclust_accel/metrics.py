"""How well clusters fit known classes, and how well separated they are where none are known.

Everything is a fraction, not a percentage. Labels may be any integers or text; their values carry no meaning.
"""

import numpy as np

from .errors import ArgumentError

SILHOUETTE_ROWS = 4096


def accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows that agree after the best one-to-one matching of clusters to classes (Hungarian algorithm).

    The measure of Xie, Girshick and Farhadi (ICML 2016, eq. 9). Numbers of clusters and classes may differ; unmatched
    ones count as errors.

    Args:
        y: (N,) true classes.
        labels: (N,) clusters.

    Raises:
        ArgumentError: Lengths differ, or there are no rows.

    Cost: O(N log N + C K min(C, K)) time and O(C K) memory for C classes and K clusters.
    """
    counts, _, pairs = _matched(y, labels)
    return float(counts[pairs].sum() / counts.sum())


def nmi(y: np.ndarray, labels: np.ndarray, average: str = "arithmetic") -> float:
    """Normalised mutual information: I(y; labels) over a mean of both entropies (Strehl and Ghosh, JMLR 2002).

    Args:
        y: (N,) true classes.
        labels: (N,) clusters.
        average: "arithmetic" (scikit-learn's default) or "max" (never larger; some papers report it).

    Raises:
        ArgumentError: Lengths differ, there are no rows, or another average is asked for.

    Cost: O(N log N) time, O(N) memory.
    """
    from sklearn.metrics import normalized_mutual_info_score

    if average not in ("arithmetic", "max"):
        raise ArgumentError(f"average: expected 'arithmetic' or 'max', got {average!r}")
    y, labels = _codes(y, labels)
    return float(np.clip(normalized_mutual_info_score(y, labels, average_method=average), 0.0, 1.0))


def ari(y: np.ndarray, labels: np.ndarray) -> float:
    """Rand index corrected for chance, -0.5 to 1 (Hubert and Arabie 1985). Raises and costs like ``nmi``."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_codes(y, labels)))


def scores(y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``acc``, ``nmi`` (arithmetic), ``nmi_max`` and ``ari`` in one dict. Raises like ``accuracy``."""
    return {
        "acc": accuracy(y, labels),
        "nmi": nmi(y, labels),
        "nmi_max": nmi(y, labels, "max"),
        "ari": ari(y, labels),
    }


def confusion(y: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count rows by class and cluster, clusters in the order of the classes they are matched to.

    Args:
        y: (N,) true classes.
        labels: (N,) clusters.

    Returns:
        (C, K) int64 counts, rows in sorted order of the classes; and (K,) the cluster of each column: matched clusters
        first, by class, then the others in sorted order. With K >= C the matching is the diagonal.

    Raises:
        ArgumentError: Lengths differ, or there are no rows.

    Cost: as ``accuracy``.
    """
    counts, clusters, (_, columns) = _matched(y, labels)
    order = np.concatenate([columns, np.setdiff1d(np.arange(len(clusters)), columns)])
    return counts[:, order], clusters[order]


def silhouette(z: np.ndarray, labels: np.ndarray, *, seed: int = 0, most: int = SILHOUETTE_ROWS) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of at most ``most`` rows, drawn without replacement by ``seed``.

    Args:
        z: (N, Z) embedding.
        labels: (N,) clusters.
        seed: Of the draw; the global random state is not touched.
        most: Rows to look at.

    Returns:
        A number from -1 to 1; None where it is undefined: fewer than two clusters, or only single rows, in the draw.

    Raises:
        ArgumentError: Lengths differ, or there are no rows.

    Cost: O(most² Z) time; memory bounded by scikit-learn's working_memory setting.
    """
    from sklearn.metrics import silhouette_score

    z, labels = _checked_rows(z, labels)
    if len(z) > most:
        picked = np.sort(np.random.default_rng(seed).choice(len(z), most, replace=False))
        z, labels = z[picked], labels[picked]
    found = len(np.unique(labels))
    return float(silhouette_score(z, labels)) if 2 <= found < len(z) else None


def label_free(z: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, float | int | None]:
    """Scores that need no true classes, and how many rows they looked at.

    Args:
        z: (N, Z) embedding, in which distances are taken.
        labels: (N,) clusters.
        seed: Of the rows drawn for the silhouette.

    Returns:
        ``rows``, N; ``silhouette`` with ``silhouette_rows`` and ``silhouette_seed``; over all rows ``davies_bouldin``
        (1979, less is better) and ``calinski_harabasz`` (1974, more is better; it grows with N). None where undefined:
        fewer than two clusters, or as many as rows. They compare labelings of the same embedding, not embeddings: collapse
        scores well.

    Raises:
        ArgumentError: Lengths differ, or there are no rows.

    Cost: O(N K Z + 4096² Z).
    """
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

    z, labels = _checked_rows(z, labels)
    defined = 2 <= len(np.unique(labels)) < len(z)
    return {
        "rows": len(z),
        "silhouette": silhouette(z, labels, seed=seed),
        "silhouette_rows": min(len(z), SILHOUETTE_ROWS),
        "silhouette_seed": seed,
        "davies_bouldin": float(davies_bouldin_score(z, labels)) if defined else None,
        "calinski_harabasz": float(calinski_harabasz_score(z, labels)) if defined else None,
    }


def _matched(y, labels) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(C, K) counts, the (K,) sorted clusters, and rows and columns of the best one-to-one matching, by row."""
    from scipy.optimize import linear_sum_assignment

    y, labels = _checked(y, labels)
    classes, y_codes = np.unique(y, return_inverse=True)
    clusters, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(y_codes * len(clusters) + codes, minlength=len(classes) * len(clusters))
    counts = counts.reshape(len(classes), len(clusters)).astype(np.int64)
    return counts, clusters, linear_sum_assignment(counts, maximize=True)


def _checked(y, labels) -> tuple[np.ndarray, np.ndarray]:
    y, labels = np.asarray(y), np.asarray(labels)
    if y.ndim != 1 or y.shape != labels.shape:
        raise ArgumentError(f"labels: expected two vectors of the same length, got shapes {y.shape} and {labels.shape}")
    if len(y) == 0:
        raise ArgumentError("labels: expected at least one row, got none")
    return y, labels


def _codes(y, labels) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.unique(part, return_inverse=True)[1] for part in _checked(y, labels))


def _checked_rows(z, labels) -> tuple[np.ndarray, np.ndarray]:
    z, labels = np.asarray(z), np.asarray(labels)
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise ArgumentError(f"labels: expected (N,) beside (N, Z), got shapes {labels.shape} and {z.shape}")
    if len(z) == 0:
        raise ArgumentError("z: expected at least one row, got none")
    return z, labels
