"""scc keeps the contract, agrees with a plain round-by-round implementation, and with scikit-learn where the two must."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dcaccel_scc import agglomerate, merge, neighbor_graph
from scipy.sparse import csr_array
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from deepclust_accel import DeepClusterer
from deepclust_accel.testing.methods import check_method


def test_it_conforms():
    assert not [str(check) for check in check_method("scc") if check.problem]


def rows(n=40, d=5, seed=0):
    return F.normalize(torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1)


def plain_rounds(x, neighbors, thresholds):
    """Clusters as sets of row numbers, after every round, straight from the definition."""
    n, similarity = len(x), (x @ x.T).tolist()
    graph = {}
    for i in range(n):
        for j in sorted((j for j in range(n) if j != i), key=lambda j: -similarity[i][j])[:neighbors]:
            graph[i, j] = graph[j, i] = similarity[i][j]
    clusters, history = [{i} for i in range(n)], []
    for threshold in thresholds:
        leader = list(range(len(clusters)))
        for a, mine in enumerate(clusters):
            averages = {
                b: sum(graph.get((i, j), 0.0) for i in mine for j in other) / (len(mine) * len(other))
                for b, other in enumerate(clusters)
                if b != a and any((i, j) in graph for i in mine for j in other)
            }
            kept = {b: value for b, value in averages.items() if value >= threshold}
            if kept:
                best, old = leader[max(kept, key=kept.get)], leader[a]
                leader = [best if name == old else name for name in leader]
        clusters = [
            set().union(*(c for c, of in zip(clusters, leader, strict=True) if of == name))
            for name in dict.fromkeys(leader)
        ]
        history.append(clusters)
    return history


def partition(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("neighbors", [2, 5, 39])
def test_rounds_are_those_of_the_definition(neighbors):
    x, thresholds = rows(), np.geomspace(0.999, 0.2, 12)
    history = plain_rounds(x, neighbors, thresholds)
    counts = [len(clusters) for clusters in history]
    assert len(set(counts)) > 3
    for number in sorted(set(counts) - {40}):
        labels, got = agglomerate(x, number, neighbors, thresholds)
        assert partition(labels) == {frozenset(c) for c in history[counts.index(number)]}
        assert got == counts[: counts.index(number) + 1]


def test_one_join_a_round_on_the_complete_graph_is_average_linkage():
    x = rows(30)
    for k in (2, 5, 11):
        theirs = AgglomerativeClustering(k, metric="cosine", linkage="average", compute_distances=True).fit(x.numpy())
        thresholds = 1 - theirs.distances_ - 1e-9  # so that every round reaches one more join
        labels, counts = agglomerate(x, k, 29, thresholds)
        assert adjusted_rand_score(theirs.labels_, labels) == 1 and counts == list(range(29, k - 1, -1))


def test_a_round_that_would_join_too_much_does_its_best_joins_only():
    similarity = np.zeros((6, 6))
    for i, j, value in ((0, 1, 0.9), (2, 3, 0.8), (4, 5, 0.7)):
        similarity[i, j] = similarity[j, i] = value
    graph = csr_array(similarity)
    assert partition(merge(graph, np.ones(6), 0.1, 1)) == {frozenset(p) for p in ({0, 1}, {2, 3}, {4, 5})}
    assert partition(merge(graph, np.ones(6), 0.1, 4)) == {frozenset(p) for p in ({0, 1}, {2, 3}, {4}, {5})}
    assert partition(merge(graph, np.ones(6), 0.75, 1)) == {frozenset(p) for p in ({0, 1}, {2, 3}, {4}, {5})}


@pytest.mark.parametrize("k", range(1, 9))
def test_exactly_k_clusters_whatever_the_graph(k):
    corners = torch.cat([torch.eye(4), -torch.eye(4)]).repeat_interleave(10, 0).double()  # no edge between the eight
    labels, _ = agglomerate(corners, k, 3, [0.5])
    assert set(labels) == set(range(k))
    if k == 8:
        assert adjusted_rand_score(np.repeat(range(8), 10), labels) == 1


def test_neighbors_are_those_of_a_full_sort():
    x = rows(12)
    graph, full = neighbor_graph(x, 3).toarray(), (x @ x.T).fill_diagonal_(-1).numpy()
    near = np.zeros((12, 12), bool)
    np.put_along_axis(near, np.argsort(-full, 1)[:, :3], True, 1)
    assert np.allclose(graph, np.where(near | near.T, full, 0))


def test_training_rows_get_the_cluster_they_were_given_and_digits_are_found():
    X, y = load_digits(return_X_y=True)
    model = DeepClusterer("scc", 10, random_state=0).fit(X)
    given = model.model_.network.labels.numpy()
    assert np.array_equal(model.predict(X), given)
    assert adjusted_rand_score(y, given) > 0.5
