"""What tells a healthy run from a sick one, without labels: looked at before the first stage of a run and after each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepclust_accel import metrics
from deepclust_accel.engine.run import Run
from deepclust_accel.methods.base import Method

__all__ = ["effective_rank", "examine"]

ROWS = 1024


def examine(method: Method, run: Run) -> dict[str, float | int | None]:
    """Look at how a method embeds and assigns at most 1,024 rows of the data, always the same ones.

    Returns:
        - ``empty``: clusters without one of these rows.
        - ``largest``: share of these rows in the largest cluster.
        - ``entropy``: mean entropy of a row's assignment over log K, 0 for one-hot, 1 for undecided; None for K = 1 and
          where an assignment is not finite (a mixture before it is fitted).
        - ``rank``: :func:`effective_rank` of the embedding; 1 or less is a line or a point, however many dimensions it has.
        - ``silhouette``: of the assignment in the embedding; None where it is undefined. Embeddings of two stages have
          different geometries, so it compares runs after the same stage rather than stages.

        Before a method has clusters all but ``rank`` tell of its initial values only.

    Cost: one forward pass of these rows, O(1024² Z) for the silhouette; no random numbers are drawn.
    """
    z, p = method.codes_and_shares(run.sample(ROWS))
    p = p.double()
    labels, k = p.argmax(1), p.shape[1]
    counts = torch.bincount(labels, minlength=k)
    entropy = -torch.xlogy(p, p).sum(1).mean() / math.log(k) if k > 1 else None
    finite = bool(z.isfinite().all())
    sure = entropy is not None and bool(p.isfinite().all())
    return {
        "empty": int((counts == 0).sum()),
        "largest": round(float(counts.max() / counts.sum()), 4),
        "entropy": round(abs(float(entropy)), 4) if sure else None,
        "rank": round(effective_rank(z), 3) if finite else None,
        "silhouette": _silhouette(z, labels) if finite else None,
    }


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred rows (N, Z) (Roy & Vetterli, EUSIPCO 2007).

    Between 0 (all rows equal) and min(N - 1, Z). Cost: O(N Z min(N, Z)).
    """
    z = z.detach().flatten(1).double()
    values = torch.linalg.svdvals(z - z.mean(0))
    if float(values.sum()) <= 1e-12 * float(z.abs().amax()) * len(z):
        return 0.0
    share = values / values.sum()
    return float((-torch.xlogy(share, share).sum()).exp())


def _silhouette(z: Tensor, labels: Tensor) -> float | None:
    value = metrics.silhouette(z.flatten(1).float().cpu().numpy(), labels.cpu().numpy(), most=ROWS)
    return None if value is None else round(value, 4)
