"""Sums of the rows of each cluster, in double: the other half of k-means, and what ranks add up."""

from __future__ import annotations

import torch
from torch import Tensor

from ._define import define
from ._validate import floats, matrix, wrong

_OP = "center_sums"
_CHUNK = 1 << 21  # numbers converted to double at a time


def _reference(x: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    sums = torch.zeros(k, x.shape[1], dtype=torch.float64, device=x.device)
    counts = torch.zeros(k, dtype=torch.int64, device=x.device)
    step = max(1, _CHUNK // x.shape[1])
    for start in range(0, len(x), step):
        rows, place = x[start : start + step].double(), index[start : start + step]
        there = (place >= 0) & (place < k)
        rows, place = rows[there], place[there]
        if x.is_cuda:  # sorts first, hence reproducible, unlike index_add_ there
            sums.index_put_((place,), rows, accumulate=True)
            counts.index_put_((place,), torch.ones_like(place), accumulate=True)
        else:
            sums.index_add_(0, place, rows)
            counts.index_add_(0, place, torch.ones_like(place))
    return sums, counts


def _fake(x: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(k, x.shape[1], dtype=torch.float64), x.new_empty(k, dtype=torch.int64)


_sums = define(
    _OP,
    "(Tensor x, Tensor index, int k) -> (Tensor sums, Tensor counts)",
    reference=_reference,
    fake=_fake,
    autocast=torch.float32,
)


def center_sums(x: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The sum and the number of the rows of each cluster; over ranks, both simply add.

        sums_k = sum of x_i over index_i = k        counts_k = number of i with index_i = k

    Args:
        x: (N, D) rows; N may be 0.
        index: (N,) int64, 0 <= index < k.
        k: number of clusters, at least 1.

    Returns:
        (K, D) float64 sums and (K,) int64 counts; zeros for a cluster without rows. Rows that are not finite make the
        sums of their cluster so.

    Types: float32, float64, half types; the sums are taken in float64 whatever the type of x.
    Gradient: none; a backward raises. The same bits at any number of threads.
    Cost: O(N D) time; memory at most O(N D) and O(K D). On a GPU the check of ``index`` waits for the result.
    Source: Lloyd, IEEE Trans. Inf. Theory 28(2) 1982, the update step.

    Raises:
        TypeError: x is not a tensor of a floating type, or index not one of int64.
        ValueError: shapes or devices disagree, k < 1, D = 0, or an index is out of range (inside torch.compile this
            one is a RuntimeError).

    >>> sums, counts = center_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1, 0, 1]), 3)
    >>> sums.flatten().tolist(), counts.tolist()
    ([2.0, 5.0, 0.0], [1, 2, 0])
    """
    (x,) = floats(_OP, x=x)
    matrix(_OP, "x", x, "N", "D")
    _check(x, index, k)
    sums, counts = _sums(x, index, k)
    if torch.compiler.is_compiling():
        torch._assert_async(counts.sum() == x.shape[0], f"{_OP}: index: expected 0 <= index < {k} for every row")
    elif int(counts.sum()) != len(x):
        row = int(((index < 0) | (index >= k)).nonzero()[0])
        got = f"{int(index[row])} at row {row}"
        raise wrong(_OP, "index", f"0 <= index < {k} for every row", got, "pass the index of a cluster")
    return sums, counts


def _check(x: Tensor, index: Tensor, k: int) -> None:
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        got = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise wrong(_OP, "index", "a tensor of torch.int64", got, "convert it with .long()", TypeError)
    if index.shape != x.shape[:1]:
        raise wrong(_OP, "shape of index", f"({len(x)},), one per row of x", tuple(index.shape), "pass one per row")
    if index.device != x.device:
        got = f"{x.device} and {index.device}"
        raise wrong(_OP, "devices of x and index", "one device", got, "move them with .to(device)")
    if k < 1 or x.shape[1] == 0:
        raise wrong(_OP, "k and D", "at least 1", f"{k} and {x.shape[1]}", "pass the number of clusters")
