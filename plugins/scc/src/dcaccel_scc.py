"""scc: sub-cluster components, agglomerative clustering in rounds over a graph of nearest neighbours. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.base import DataSpec, Method, MethodInfo, Params, Pass, Run, Stage, param

__all__ = ["Scc", "SccParams", "agglomerate", "merge", "neighbor_graph"]

_ENTRIES = 1 << 25  # of a block of similarities: 128 MiB


@dataclass
class SccParams(Params):
    """Settings of scc."""

    neighbors: int = param(25, "of each row in the graph", low=1)
    rounds: int = param(50, "thresholds, in equal ratios from the first to the last", low=1)
    first_threshold: float = param(1.0, "cosine similarity that two rows need to be merged in the first round", above=0)
    last_threshold: float = param(0.1, "average similarity that two clusters need to be merged in the last", above=0)


def neighbor_graph(x: Tensor, neighbors: int) -> csr_array:
    """Symmetric (N, N) graph of the dot products of each row of x (N, D) with its nearest others; only positive ones.

    Cost: O(N² D), in blocks of 128 MiB.
    """
    n, k = len(x), min(neighbors, len(x) - 1)
    values, columns = [], []
    block = max(1, _ENTRIES // n)
    for first in range(0, n, block):
        part = x[first : first + block]
        similarity = part @ x.T
        similarity[torch.arange(len(part)), torch.arange(first, first + len(part))] = -torch.inf
        best = similarity.topk(k, dim=1)
        values.append(best.values.double().cpu().numpy())
        columns.append(best.indices.cpu().numpy())
    value, column, row = np.concatenate(values).ravel(), np.concatenate(columns).ravel(), np.repeat(np.arange(n), k)
    positive = value > 0
    graph = csr_array((value[positive], (row[positive], column[positive])), shape=(n, n))
    return graph.maximum(graph.T).tocsr()


def merge(graph: csr_array, sizes: np.ndarray, threshold: float, at_least: int) -> np.ndarray:
    """One round: every node joins its most similar neighbour; returns the component (n,) of each node.

    Args:
        graph: (n, n) sums of the similarities between the rows of two nodes; the average counts a missing pair as 0.
        sizes: (n,) rows of each node.
        threshold: average similarity below which nodes do not join.
        at_least: components to leave; where there would be fewer, only the most similar joins happen.
    """
    edges = graph.tocoo()
    average = edges.data / (sizes[edges.row] * sizes[edges.col])
    kept = (average >= threshold) & (edges.row != edges.col)
    row, column, average = edges.row[kept], edges.col[kept], average[kept]
    order = np.lexsort((column, -average, row))
    row, column, average = row[order], column[order], average[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))  # of each node, its best
    row, column, average = row[first], column[first], average[first]
    count, parents = _components(row, column, len(sizes))
    if count >= at_least:
        return parents
    order = np.argsort(-average, kind="stable")  # the longest run of joins, best first, that leaves enough
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        left = _components(row[order[:middle]], column[order[:middle]], len(sizes))[0]
        low, high = (middle, high) if left >= at_least else (low, middle - 1)
    return _components(row[order[:low]], column[order[:low]], len(sizes))[1]


def _components(row: np.ndarray, column: np.ndarray, n: int) -> tuple[int, np.ndarray]:
    return connected_components(coo_array((np.ones(len(row)), (row, column)), shape=(n, n)), directed=False)


def agglomerate(
    x: Tensor, n_clusters: int, neighbors: int, thresholds: Iterable[float]
) -> tuple[np.ndarray, list[int]]:
    """Labels (N,) int64 of rows x (N, D) of length 1 in K clusters, and the number of clusters after every round.

    Where the thresholds leave more than K, rounds without threshold follow; where the graph has more than K components,
    so do rounds on the graph of their means, whose dot product is the average similarity of all pairs.
    """
    labels, counts = np.arange(len(x)), []
    graph, sizes, rest = neighbor_graph(x, neighbors), np.ones(len(x)), chain(thresholds, repeat(-np.inf))
    while len(sizes) > n_clusters:
        if not graph.nnz:
            graph, rest = _graph_of_means(x, labels, sizes, neighbors), repeat(-np.inf)
        parents = merge(graph, sizes, next(rest), n_clusters)
        labels, sizes = parents[labels], np.bincount(parents, weights=sizes)
        onto = csr_array((np.ones(len(parents)), (np.arange(len(parents)), parents)))
        contracted = (onto.T @ graph @ onto).tocoo()
        apart = contracted.row != contracted.col
        graph = csr_array((contracted.data[apart], (contracted.row[apart], contracted.col[apart])), contracted.shape)
        counts.append(len(sizes))
    return labels, counts


def _graph_of_means(x: Tensor, labels: np.ndarray, sizes: np.ndarray, neighbors: int) -> csr_array:
    sums = torch.zeros(len(sizes), x.shape[1], dtype=torch.float64).index_add_(
        0, torch.from_numpy(labels), x.double().cpu()
    )
    means = sums / torch.from_numpy(sizes)[:, None]
    # One more coordinate adds 2 to every product: all are positive, so that every round joins something.
    graph = neighbor_graph(F.pad(means, (0, 1), value=2**0.5), neighbors).tocoo()
    return csr_array((graph.data * sizes[graph.row] * sizes[graph.col], (graph.row, graph.col)), graph.shape)


class Scc(Method):
    """Rounds of joining every cluster to its nearest one, while their average cosine similarity reaches a falling threshold.

    Paper: Monath et al. (Scalable Hierarchical Agglomerative Clustering), KDD 2021; its settings. Differs: exactly K
    clusters where the paper takes the round with about K, by doing only the best joins of the last round; a new row gets the
    cluster of its most similar training row, so the model holds all rows. Cost: O(N²·D) once for the neighbours, then
    O(N·neighbors) a round; memory O(N·(D + neighbors)); predicting O(N·D) a row. Assumes that cosine similarity of the rows
    means something: center data around 0 with --scaling standard. Known failure: a few rows between two clusters join them.
    """

    info = MethodInfo(
        "scc", "Monath et al., KDD 2021", "agglomerative clustering in rounds, no training", distributed=False
    )
    Params = SccParams

    def __init__(self, params: SccParams, n_clusters: int, data: DataSpec):
        super().__init__(params, n_clusters, data)
        if data.rows is None:
            raise ArgumentError(
                "data: expected a known number of rows for scc, got a stream; save it to a .npy file first"
            )
        self.register_buffer("rows", torch.zeros(data.rows, self.features))
        self.register_buffer("labels", torch.zeros(data.rows, dtype=torch.int64))

    def plan(self) -> list[Stage]:
        """One pass."""
        return [Pass("agglomerate", self._agglomerate)]

    def embed(self, x: Tensor) -> Tensor:
        """The row, flattened, at length 1."""
        return F.normalize(x.flatten(1), dim=1)

    def assign(self, z: Tensor) -> Tensor:
        """One-hot of the cluster of the most similar training row."""
        best = z.new_full((len(z),), -torch.inf)
        labels = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        step = max(1, _ENTRIES // max(1, len(z)))
        for first in range(0, len(self.rows), step):
            similarity, where = (z @ self.rows[first : first + step].T).max(1)
            labels = torch.where(similarity > best, self.labels[first + where], labels)
            best = torch.maximum(similarity, best)
        return F.one_hot(labels, self.n_clusters).to(z.dtype)

    def _agglomerate(self, run: Run) -> None:
        p = self.params
        thresholds = np.geomspace(p.first_threshold, p.last_threshold, p.rounds)
        self.rows.copy_(run.collect(self.embed))
        labels, _ = agglomerate(self.rows, self.n_clusters, p.neighbors, thresholds)
        self.labels.copy_(torch.from_numpy(labels))
