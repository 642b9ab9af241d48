"""What the report claims: sizes, matches, remarks."""

import dataclasses

import numpy as np
import pytest
from contents import make
from page_reader import PageReader

from deepclust_accel.metrics import accuracy
from deepclust_accel.report import render
from deepclust_accel.report.facts import digest


def test_sizes_and_confidence_by_cluster():
    content = make(
        labels=np.array([0, 0, 2, 2, 2]),
        confidence=np.array([1, 0.5, 0.2, 0.2, np.nan]),
        truth=None,
        sample=np.arange(5),
        embedding=np.eye(5),
    )
    facts = digest(content)
    assert facts.sizes.tolist() == [2, 0, 3, 0] and facts.empty == [1, 3]
    np.testing.assert_allclose(facts.certainty, [0.75, 0, 0.4 / 3, 0])


def test_empty_clusters_are_called_out_in_header_sizes_and_examples():
    content = make()
    labels = np.where(content.labels == 2, 1, content.labels)
    rows = content.example_rows.copy()
    rows[2] = -1
    page = PageReader(render(dataclasses.replace(content, labels=labels, example_rows=rows)))
    assert "1 of 4 clusters is empty: 2." in page.text
    assert "1 cluster of 4 without a single row: 2" in page.sections["sizes"] and "✕" in page.sections["sizes"]
    assert "Empty clusters have none: 2" in page.sections["examples"]


@pytest.mark.parametrize(("classes", "clusters"), [(4, 4), (3, 6), (7, 3), (1, 1), (5, 1), (1, 4)])
def test_matching_agrees_with_accuracy(classes, clusters):
    rng = np.random.default_rng(classes * 10 + clusters)
    y, labels = rng.integers(0, classes, 500), rng.integers(0, clusters, 500)
    facts = digest(make(500, clusters, labels=labels, truth=y * 1000 - 7))
    truth = facts.truth
    assert truth.counts.sum() == 500 and sorted(truth.columns) == list(range(clusters))
    assert truth.matched(labels).mean() == pytest.approx(accuracy(y, labels))
    assert truth.columns[: len(truth.cluster)] == [truth.cluster[i] for i in sorted(truth.cluster)]
    assert len(set(truth.colors)) == len(truth.names)


def test_a_matched_label_has_the_color_of_its_cluster():
    truth = digest(make()).truth
    assert truth.cluster == {0: 1, 1: 2, 2: 3, 3: 0} and truth.colors == [1, 2, 3, 0]


def test_a_match_needs_rows_in_common():
    truth = digest(make(4, 2, labels=np.array([0, 0, 1, 1]), truth=np.array([5, 5, 5, 5]))).truth
    assert truth.cluster in ({0: 0}, {0: 1})


def test_huge_and_many_labels():
    y = np.random.default_rng(0).integers(-(2**62), 2**62, 300)
    facts = digest(make(truth=y))
    assert len(facts.truth.names) == 200 and facts.truth.names[-1] == "101 others" and facts.truth.merged == 101
    assert facts.truth.counts.sum() == 300 and 199 not in facts.truth.cluster
    page = PageReader(render(make(truth=np.where(np.arange(300) % 2, 2**62, -(2**62)))))
    assert "-4611686018427387904" in page.sections["confusion"]


def test_rows_outside_the_clusters_are_counted_not_dropped_silently():
    content = make()
    labels = content.labels.copy()
    labels[:3], labels[3] = -1, 10**12
    page = PageReader(render(dataclasses.replace(content, labels=labels)))
    assert "4 rows (1.3 %) belong to no cluster." in page.text
    assert page.all("path", **{"class": "cx"})


def test_remarks():
    content = make()
    history = [*content.history, {"stage": "joint", "epoch": 20, "seconds": 0.1, "similarity": float("inf")}]
    run = {**content.run, "kernels": {"wasserstein_similarity": {"kernel": "reference", "why": "no compiler"}}}
    page = PageReader(
        render(
            dataclasses.replace(
                content,
                history=history,
                run=run,
                labels=np.where(content.labels == 3, 3, 0),
                confidence=np.full(300, 0.3),
                embedding=np.ones((300, 5)),
            )
        )
    )
    for text in (
        "Cluster 0 holds",
        "collapsed to one point",
        "Not finite in at least one epoch: similarity",
        "confidence below 0.5",
        "not on a native kernel: wasserstein_similarity",
        "2 of 4 clusters are empty",
    ):
        assert text in page.text, text
    assert "no compiler" in page.sections["details"]


def test_a_good_run_has_no_remarks():
    assert digest(make()).remarks == []


def test_largest_disagreements_are_named():
    y = np.repeat([0, 1], 50)
    labels = np.where((y == 1) & (np.arange(100) < 70), 0, y)
    page = PageReader(render(make(100, 2, labels=labels, truth=y)))
    assert "20 rows of label 1 (40 %) in cluster 0, matched to label 0" in page.sections["confusion"]
    assert "80 % of the rows (80 of 100)" in page.sections["confusion"]
