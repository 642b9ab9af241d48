"""Naming clusters alike in two labelings of the same rows."""

import torch
from torch import Tensor

from ..errors import ArgumentError


def match_clusters(a: Tensor, b: Tensor, n_clusters: int | None = None) -> Tensor:
    """Rename the clusters of ``b`` so that as many rows as possible agree with ``a``.

    Args:
        a: (N,) integer labels 0..K-1.
        b: (N,) integer labels 0..K-1 of the same rows.
        n_clusters: K; one more than the largest label by default.

    Returns:
        (K,) int64 permutation p on the CPU: ``p[b]`` is ``b`` in the names of ``a``. Clusters that share no row with
        any get the names left over.

    Raises:
        ArgumentError: Labels of different lengths, negative ones, or ones not below K.

    Cost: O(N + K^3), Hungarian algorithm.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = a.detach().cpu().long(), b.detach().cpu().long()
    if a.ndim != 1 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ArgumentError(f"labels: expected two vectors of the same length, got shapes {shapes}")
    top = int(max(a.max(), b.max())) + 1 if len(a) else 0
    k = top if n_clusters is None else n_clusters
    if top > k or (len(a) and int(min(a.min(), b.min())) < 0):
        raise ArgumentError(f"labels: expected whole numbers from 0 to {k - 1}, got others")
    together = torch.bincount(b * k + a, minlength=k * k).view(k, k)
    rows, columns = linear_sum_assignment(together.numpy(), maximize=True)
    permutation = torch.empty(k, dtype=torch.int64)
    permutation[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return permutation
