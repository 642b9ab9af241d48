"""What the pictures and the text of a report are drawn from: counts, matches and remarks, computed once."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepclust_accel.metrics import confusion
from deepclust_accel.report.content import ReportContent
from deepclust_accel.report.markup import count, percent, plain

__all__ = ["Facts", "Truth", "digest", "entry", "is_number", "mapping", "ran_on"]

MOST_CLASSES = 200  # more labels than this are drawn as one, "other"


@dataclass(frozen=True)
class Truth:
    """Given labels beside clusters; L classes in increasing order.

    Attributes:
        names: the labels as text.
        index: (N,) class of every row.
        counts: (L, K) rows of a class in a cluster.
        cluster: class → the cluster matched to it, where there is one.
        columns: clusters in the order of the classes they are matched to, then the rest.
        colors: color number of every class: that of its cluster.
        merged: how many labels the last class stands for, 0 if each class is one label.
    """

    names: list[str]
    index: np.ndarray
    counts: np.ndarray
    cluster: dict[int, int]
    columns: list[int]
    colors: list[int]
    merged: int

    def matched(self, labels: np.ndarray) -> np.ndarray:
        """Return (N,) whether the cluster of a row is the one matched to its label."""
        partner = np.array([self.cluster.get(i, -2) for i in range(len(self.names))])
        return partner[self.index] == labels

    def label_of(self) -> dict[int, int]:
        """Return cluster → class for the matched clusters."""
        return {k: i for i, k in self.cluster.items()}


@dataclass(frozen=True)
class Facts:
    """Numbers about the clusters of a run.

    Attributes:
        sizes: (K,) rows of every cluster.
        certainty: (K,) mean confidence of every cluster, 0 where it is empty.
        outside: rows whose label is not the number of a cluster.
        remarks: what a reader must not miss, as ``(serious, sentence)``.
    """

    rows: int
    clusters: int
    sizes: np.ndarray
    certainty: np.ndarray
    outside: int
    truth: Truth | None
    remarks: list[tuple[bool, str]]

    @property
    def empty(self) -> list[int]:
        """Clusters without a row."""
        return [int(k) for k in np.flatnonzero(self.sizes == 0)]


def entry(run: Mapping[str, Any], *path: str) -> Any:
    """Return a nested entry of run.json, or None when any step is missing."""
    value: Any = run
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def mapping(run: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a table of run.json; an empty one when it is missing or something else."""
    value = run.get(key)
    return value if isinstance(value, Mapping) else {}


def is_number(value: object) -> bool:
    """Whether a value can be drawn; true and false are no numbers here."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def ran_on(fact: Any) -> tuple[str, str]:
    """Return the kernel that an operator ran on and why, from its entry in run.json."""
    if not isinstance(fact, Mapping):
        return plain(fact), ""
    kernel, why = fact.get("kernel", fact.get("backend")), fact.get("why", fact.get("reason"))
    place = f" on {plain(fact['device'])}" if fact.get("device") else ""
    return f"{plain(kernel or 'unknown')}{place}", plain(why or "")


def digest(content: ReportContent) -> Facts:
    """Count, match and remark."""
    labels = np.asarray(content.labels).reshape(-1)
    clusters = _clusters(content, labels)
    inside = (labels >= 0) & (labels < clusters)
    known = labels[inside].astype(np.intp)
    sizes = np.bincount(known, minlength=clusters)
    confidence = np.nan_to_num(
        np.asarray(content.confidence, dtype=np.float64).reshape(-1), nan=0.0, posinf=1.0, neginf=0.0
    )
    certainty = np.bincount(known, weights=confidence[inside], minlength=clusters) / np.maximum(sizes, 1)
    truth = None if content.truth is None else _truth(np.asarray(content.truth).reshape(-1), labels, inside, clusters)
    facts = Facts(len(labels), clusters, sizes, certainty, int(len(labels) - len(known)), truth, [])
    facts.remarks.extend(_remarks(content, facts, confidence))
    return facts


def _clusters(content: ReportContent, labels: np.ndarray) -> int:
    asked = content.run.get("n_clusters")
    if isinstance(asked, numbers.Integral) and asked > 0:
        return int(asked)
    if len(content.examples):
        return len(content.examples)
    return int(min(labels.max(initial=0), len(labels))) + 1


def _truth(given: np.ndarray, labels: np.ndarray, inside: np.ndarray, clusters: int) -> Truth:
    values, index, sizes = np.unique(given, return_inverse=True, return_counts=True)
    index, names, merged = index.reshape(-1), [str(v) for v in values.tolist()], 0
    if len(values) > MOST_CLASSES:
        keep = np.sort(np.argsort(-sizes, kind="stable")[: MOST_CLASSES - 1])
        place = np.full(len(values), len(keep))
        place[keep] = np.arange(len(keep))
        merged = len(values) - len(keep)
        index, names = place[index], [names[i] for i in keep] + [f"{merged:,} others"]
    size = len(names)
    cells = index[inside] * clusters + labels[inside].astype(np.intp)
    counts = np.bincount(cells, minlength=size * clusters).reshape(size, clusters)
    known = inside & (index < size - bool(merged))
    cluster = {i: k for i, k in _match(index[known], labels[known]).items() if counts[i, k]}
    used = set(cluster.values())
    columns = [cluster[i] for i in sorted(cluster)] + [k for k in range(clusters) if k not in used]
    spare = iter(range(clusters, clusters + size))
    colors = [cluster[i] if i in cluster else next(spare) for i in range(size)]
    return Truth(names, index, counts, cluster, columns, colors, merged)


def _match(index: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Return class → cluster of the one-to-one matching with the most rows in common."""
    if not len(index):
        return {}
    classes, clusters = np.unique(index), np.unique(labels)
    # confusion puts the matching on the diagonal for the smaller side, so that side has to be given first.
    if len(classes) <= len(clusters):
        pairs = zip(classes.tolist(), confusion(index, labels)[1].tolist(), strict=False)
    else:
        pairs = zip(confusion(labels, index)[1].tolist(), clusters.tolist(), strict=False)
    return {int(i): int(k) for i, k in pairs}


def _remarks(content: ReportContent, facts: Facts, confidence: np.ndarray) -> list[tuple[bool, str]]:
    remarks, rows = [], facts.rows
    if content.drawn_from is not None:
        remarks.append((False, f"Counts and shares are of {rows:,} rows, drawn at random from {content.drawn_from:,}."))
    if facts.empty:
        shown = ", ".join(map(str, facts.empty[:20])) + (" …" if len(facts.empty) > 20 else "")
        verb = "is empty" if len(facts.empty) == 1 else "are empty"
        remarks.append((True, f"{len(facts.empty)} of {count(facts.clusters, 'cluster')} {verb}: {shown}."))
    if facts.clusters > 2 and facts.sizes.max() > 0.5 * rows:
        remarks.append(
            (True, f"Cluster {int(facts.sizes.argmax())} holds {percent(facts.sizes.max(), rows)} of all rows.")
        )
    if facts.outside:
        remarks.append((True, f"{count(facts.outside, 'row')} ({percent(facts.outside, rows)}) belong to no cluster."))
    codes = np.asarray(content.embedding)
    if codes.shape[0] > 1 and codes.size and (codes == codes[0]).all():
        remarks.append((True, "All rows on the map have the same code: the embedding has collapsed to one point."))
    broken = _not_finite(content.history)
    if broken:
        remarks.append((True, f"Not finite in at least one epoch: {', '.join(broken)}."))
    unsure = int((confidence < 0.5).sum())
    if facts.clusters > 1 and unsure > 0.2 * rows:
        remarks.append((False, f"{percent(unsure, rows)} of the rows have a confidence below 0.5."))
    slow = [op for op, fact in mapping(content.run, "kernels").items() if ran_on(fact)[0].startswith("reference")]
    if slow:
        which = f"{', '.join(slow)} (why: see run details)"
        remarks.append((False, f"Ran on the plain PyTorch reference, not on a native kernel: {which}."))
    return remarks


def _not_finite(history: list[dict]) -> list[str]:
    names = {
        name: None
        for record in history
        for name, value in record.items()
        if is_number(value) and not math.isfinite(value)
    }
    return [str(name) for name in names]
