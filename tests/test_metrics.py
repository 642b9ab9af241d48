"""Scores against their definitions, written out or tried exhaustively."""

import json
from itertools import permutations
from math import log

import numpy as np
import pytest

from deepclust_accel import metrics
from deepclust_accel.errors import ArgumentError

RNG = np.random.default_rng(0)


def entropy(labels):
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return -sum(p * log(p) for p in shares)


def information(y, labels):
    joint = {(a, b): np.mean((y == a) & (labels == b)) for a in set(y) for b in set(labels)}
    return sum(p * log(p / (np.mean(y == a) * np.mean(labels == b))) for (a, b), p in joint.items() if p > 0)


def best_by_trying(y, labels):
    classes, clusters = sorted(set(y)), sorted(set(labels))
    padded = classes + [None] * max(0, len(clusters) - len(classes))
    return max(
        sum(np.sum((labels == b) & (y == a)) for a, b in zip(chosen, clusters, strict=True) if a is not None)
        for chosen in permutations(padded, len(clusters))
    ) / len(y)


@pytest.mark.parametrize(("classes", "clusters"), [(4, 4), (2, 5), (5, 2), (1, 3), (3, 1)])
def test_against_definitions(classes, clusters):
    for _ in range(5):
        y, labels = RNG.integers(classes, size=40), RNG.integers(clusters, size=40)
        assert metrics.accuracy(y, labels) == pytest.approx(best_by_trying(y, labels))
        shared, means = information(y, labels), (entropy(y) + entropy(labels)) / 2
        assert metrics.nmi(y, labels) == pytest.approx(shared / means, abs=1e-9)
        assert metrics.nmi(y, labels, "max") == pytest.approx(shared / max(entropy(y), entropy(labels)), abs=1e-9)


def test_known_answers():
    y = np.array([0, 0, 0, 1, 1, 1])
    assert metrics.scores(y, 1 - y) == pytest.approx({"acc": 1, "nmi": 1, "nmi_max": 1, "ari": 1})
    assert metrics.scores(y, np.zeros(6)) == pytest.approx({"acc": 0.5, "nmi": 0, "nmi_max": 0, "ari": 0})
    labels = np.array([0, 0, 1, 1, 2, 2])  # the worked example of scikit-learn's user guide
    assert metrics.ari(y, labels) == pytest.approx(0.24242424, abs=1e-8)
    assert metrics.accuracy(y, labels) == pytest.approx(4 / 6)
    json.dumps(metrics.scores(y, labels))


def test_names_of_labels_do_not_matter():
    y, labels = RNG.integers(4, size=60), RNG.integers(5, size=60)
    expected = metrics.scores(y, labels)
    assert metrics.scores(np.array(list("dbca"))[y], labels * 1000 - 7) == pytest.approx(expected)
    assert metrics.scores(y.astype(np.uint8), [float(label) for label in labels]) == pytest.approx(expected)


def test_one_row():
    assert metrics.scores(np.array([3]), np.array([8])) == {"acc": 1.0, "nmi": 1.0, "nmi_max": 1.0, "ari": 1.0}


@pytest.mark.parametrize(("classes", "clusters"), [(4, 4), (2, 5), (5, 2)])
def test_confusion_counts_and_orders(classes, clusters):
    y, labels = RNG.integers(classes, size=80) + 10, RNG.integers(clusters, size=80) * 2 - 1
    matrix, columns = metrics.confusion(y, labels)
    assert matrix.shape == (classes, clusters) and sorted(columns) == sorted(set(labels))
    for i in range(classes):
        for j in range(clusters):
            assert matrix[i, j] == np.sum((y == i + 10) & (labels == columns[j]))
    if clusters >= classes:
        assert np.trace(matrix) / 80 == pytest.approx(metrics.accuracy(y, labels))
        assert list(columns[classes:]) == sorted(columns[classes:])


def two_blobs(rows):
    labels = np.arange(rows) % 2
    return RNG.normal(size=(rows, 3)) * 0.1 + labels[:, None] * 5, labels


def test_silhouette_against_its_definition():
    z, labels = RNG.normal(size=(30, 3)), RNG.integers(3, size=30)
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    values = []
    for i in range(30):
        own = (labels == labels[i]) & (np.arange(30) != i)
        a, b = distance[i, own].mean(), min(distance[i, labels == c].mean() for c in range(3) if c != labels[i])
        values.append((b - a) / max(a, b))
    assert metrics.silhouette(z, labels) == pytest.approx(np.mean(values))


def test_silhouette_looks_at_a_bounded_seeded_sample(monkeypatch):
    import sklearn.metrics

    seen, original = [], sklearn.metrics.silhouette_score
    monkeypatch.setattr(sklearn.metrics, "silhouette_score", lambda z, part: seen.append(len(z)) or original(z, part))
    z, labels = RNG.normal(size=(9000, 2)), RNG.integers(3, size=9000)
    before = np.random.get_state()[1].copy()
    assert metrics.silhouette(z, labels, seed=1, most=500) == metrics.silhouette(z, labels, seed=1, most=500)
    assert metrics.silhouette(z, labels, seed=1, most=500) != metrics.silhouette(z, labels, seed=2, most=500)
    report = metrics.label_free(z, labels, seed=3)
    assert seen == [500] * 4 + [4096] and (report["silhouette_rows"], report["silhouette_seed"]) == (4096, 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_label_free_prefers_the_right_labels():
    z, labels = two_blobs(200)
    right, wrong = metrics.label_free(z, labels), metrics.label_free(z, RNG.permutation(labels))
    assert right["silhouette"] > 0.9 > wrong["silhouette"]
    assert right["davies_bouldin"] < wrong["davies_bouldin"] and right["calinski_harabasz"] > wrong["calinski_harabasz"]
    json.dumps(right)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_label_free_is_none_where_undefined(labels):
    report = metrics.label_free(np.eye(3), np.array(labels))
    assert [report[key] for key in ("silhouette", "davies_bouldin", "calinski_harabasz")] == [None] * 3
    assert metrics.label_free(np.ones((1, 2)), np.zeros(1))["silhouette"] is None


def test_unfit_arguments():
    for call in (metrics.accuracy, metrics.nmi, metrics.ari, metrics.scores, metrics.confusion):
        for y, labels in ((np.zeros(3), np.zeros(4)), (np.zeros(0), np.zeros(0)), (np.zeros((2, 2)), np.zeros((2, 2)))):
            with pytest.raises(ArgumentError, match="labels: expected"):
                call(y, labels)
    with pytest.raises(ArgumentError, match="average"):
        metrics.nmi(np.zeros(2), np.zeros(2), "min")
    for z, labels in ((np.zeros((3, 2)), np.zeros(2)), (np.zeros(3), np.zeros(3)), (np.zeros((0, 2)), np.zeros(0))):
        with pytest.raises(ArgumentError, match="expected"):
            metrics.label_free(z, labels)
