"""The parts of the page that hold pictures, each with a sentence on what it shows and what it cannot show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepclust_accel.report.content import ReportContent
from deepclust_accel.report.examples import cards, feature_table
from deepclust_accel.report.facts import Facts, Truth, is_number
from deepclust_accel.report.figures import MOST_CELLS, WIDE, Span, confidence, confusion, curve, sizes
from deepclust_accel.report.markup import Markup, count, number, percent, table, tag
from deepclust_accel.report.projection import Plane, project
from deepclust_accel.report.scatter import MOST_NAMES, chips, point_map

__all__ = ["certainty", "curves", "example_rows", "group_sizes", "maps", "matches", "section"]

LEGEND = 20  # groups up to which the legend is open
MOST_PANELS = 60
SKIP = ("stage", "epoch", "seconds")


def section(name: str, title: str, shows: object, hides: object, *body: object) -> Markup:
    """Return a section with its heading and its reading aid."""
    aid = [tag("b", "Shows "), shows] + ([" ", tag("b", "Does not show "), hides] if hides else [])
    return tag("section", tag("h2", title), tag("p", *aid, class_="reads") if shows else None, *body, id=name)


def maps(content: ReportContent, facts: Facts) -> Markup:
    """The sampled rows in the plane, colored by cluster and, when given, by label."""
    plane, sample = project(content.embedding), np.asarray(content.sample)
    labels = np.asarray(content.labels).reshape(-1)[sample]
    group = np.where((labels >= 0) & (labels < facts.clusters), labels, -1)
    if plane.strip:
        plane = _lanes(plane, group, facts.clusters)
    names = [str(k) for k in range(facts.clusters)]
    colors = list(range(facts.clusters))
    figures = [_map(plane, group, names, colors, facts.sizes, "cluster")]
    if facts.truth is not None:
        truth = facts.truth
        figures.append(_map(plane, truth.index[sample], truth.names, truth.colors, truth.counts.sum(1), "label"))
    shown = "all" if len(sample) == facts.rows else f"a random {len(sample):,} of"
    if plane.shares:
        how = (
            f"by their two principal components, which hold {100 * sum(plane.shares):.1f} % of the variance "
            f"of the {plane.size} values of a code"
        )
        hides = "distances faithfully: groups that overlap here may be apart in the other components."
    elif plane.strip:
        how = "by the one value of their code" + (", one lane a cluster" if facts.clusters <= LEGEND else "")
        hides = "anything by height within a lane: dots are only spread out."
    else:
        how, hides = "by the two values of their code, as they are", "how sure an assignment is."
    aid = f"{shown} {facts.rows:,} rows placed {how}."
    aid += (
        " Names stand at the median of a group."
        if facts.clusters <= MOST_NAMES
        else " There are too many groups to write their names; point at a dot."
    )
    if facts.truth is not None:
        aid += (
            " A label has the color of the cluster matched to it, so a change of color from left to right "
            "is a disagreement."
        )
    lost = int((~plane.kept).sum())
    if lost:
        aid += f" {count(lost, 'row')} with a code that is not finite {'is' if lost == 1 else 'are'} left out."
    return section(
        "map",
        "Map of the embedding",
        aid,
        hides,
        tag("div", *figures, class_="maps" if len(figures) > 1 else "maps one"),
    )


def _lanes(plane: Plane, group: np.ndarray, clusters: int) -> Plane:
    """Give each cluster its lane on a strip and spread its dots evenly inside it."""
    points, lane = plane.points.copy(), group[plane.kept].astype(np.float64)
    spread = (np.arange(len(lane)) * 0.618034) % 1 - 0.5  # the golden ratio fills a lane without a pattern
    points[:, 1] = (np.maximum(lane, 0) if clusters <= LEGEND else 0.0) + 0.8 * spread
    return Plane(points, plane.kept, plane.shares, plane.size)


def _map(plane: Plane, group: np.ndarray, names: list[str], colors: list[int], rows: np.ndarray, noun: str) -> Markup:
    legend = chips(names, colors, rows.tolist(), noun)
    if len(names) > LEGEND:
        legend = tag("details", tag("summary", f"Legend of {count(len(names), noun)}"), legend)
    title = "by cluster" if noun == "cluster" else "by given label"
    return tag(
        "figure",
        tag("figcaption", title, tag("span", count(len(names), noun))),
        point_map(plane, group, names, colors, noun),
        legend,
    )


def curves(content: ReportContent) -> Markup:
    """One panel a logged term, on a common axis of epochs."""
    history = [r for r in content.history if isinstance(r, dict)]
    if not history:
        return section(
            "training",
            "Training",
            None,
            None,
            tag("p", "This method was fitted without epochs, so there is nothing to draw.", class_="reads"),
        )
    spans: list[Span] = []
    for epoch, record in enumerate(history):
        stage = str(record.get("stage", "train"))
        if spans and spans[-1][0] == stage:
            spans[-1] = (stage, spans[-1][1], epoch + 1)
        else:
            spans.append((stage, epoch, epoch + 1))
    terms = list(dict.fromkeys(name for r in history for name, v in r.items() if name not in SKIP and is_number(v)))
    stages = (
        tag("li", tag("b", f"{i} {name}"), f" {count(last - first, 'epoch')}{_took(history[first:last])}")
        for i, (name, first, last) in enumerate(spans, 1)
    )
    panels, lines = [], []
    for term in terms[:MOST_PANELS]:
        values = [r[term] if is_number(r.get(term)) else None for r in history]
        finite = [(float(v), e + 1) for e, v in enumerate(values) if v is not None and math.isfinite(v)]
        last = f"last {number(finite[-1][0])}" if finite else "never finite"
        panels.append(tag("figure", tag("figcaption", term, tag("span", last)), curve(term, values, spans)))
        if finite:
            low, high = min(finite), max(finite)
            lines.append(
                (
                    term,
                    number(finite[0][0]),
                    number(finite[-1][0]),
                    f"{number(low[0])} (epoch {low[1]})",
                    f"{number(high[0])} (epoch {high[1]})",
                )
            )
    left_out = f" The first {MOST_PANELS} of {len(terms)} terms." if len(terms) > MOST_PANELS else ""
    return section(
        "training",
        "Training",
        f"the mean of every logged term over each epoch, in the order of the run, stages shaded.{left_out} "
        "Terms that span more than a factor of 50 have a logarithmic axis; a red mark is a value that was not finite.",
        "whether lower is better for the clusters: terms have different scales, and a weight can change during a run.",
        tag("ol", *stages, class_="stages"),
        tag("div", *panels, class_="panels"),
        _health(content.run.get("health")),
        tag(
            "details",
            tag("summary", "As a table"),
            table(("term", "first", "last", "lowest", "highest"), lines, class_="figures"),
        ),
    )


def _health(stages: Any) -> Markup | None:
    """What was seen of a thousand rows before the first stage and after each."""
    stages = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
    if not stages:
        return None
    names = list(dict.fromkeys(name for s in stages for name in s if name != "stage"))
    rows = [
        (str(s.get("stage")), *(number(s[name], 3) if is_number(s.get(name)) else "–" for name in names))
        for s in stages
    ]
    read = (
        "Health after each stage, of at most 1,024 rows: clusters without a row, share of the largest, entropy of a row's "
        "assignment (0 sure, 1 undecided), effective rank of the embedding, silhouette. Before a method has clusters, only "
        "the rank tells something."
    )
    return tag("details", tag("summary", "Health, stage by stage"), tag("p", read), table(("stage", *names), rows))


def _took(records: list[dict]) -> str:
    total = sum(float(r["seconds"]) for r in records if is_number(r.get("seconds")) and math.isfinite(r["seconds"]))
    return f", {number(total, 3)} s" if total else ""


def group_sizes(facts: Facts) -> Markup:
    """Rows and mean confidence of every cluster."""
    empty = facts.empty
    if empty:
        shown = ", ".join(map(str, empty[:30])) + (" …" if len(empty) > 30 else "")
        note = tag(
            "p",
            tag("b", f"{count(len(empty), 'cluster')} of {facts.clusters} without a single row: "),
            shown,
            " (✕ in the chart).",
        )
    else:
        least, most = count(facts.sizes.min(), "row"), count(facts.sizes.max(), "row")
        note = tag("p", f"No cluster is empty; the smallest has {least}, the largest {most}.")
    head = ["cluster", "rows", "share", "mean confidence"]
    label = {} if facts.truth is None else facts.truth.label_of()
    head += ["matched label", "share of that label in the cluster"] if facts.truth else []
    lines = []
    for k in range(facts.clusters):
        line = [
            str(k),
            count(facts.sizes[k]),
            percent(facts.sizes[k], facts.rows),
            f"{facts.certainty[k]:.3f}" if facts.sizes[k] else "empty",
        ]
        if facts.truth is not None:
            i = label.get(k)
            line += (
                ["none", ""] if i is None else [facts.truth.names[i], percent(facts.truth.counts[i, k], facts.sizes[k])]
            )
        lines.append(line)
    return section(
        "sizes",
        "Cluster sizes",
        "how many rows each cluster holds, and below it how sure the method is of them on average. "
        "The dashed line is an equal share.",
        "whether a cluster is right: large and confident clusters can still mix groups.",
        note,
        tag("figure", tag("div", sizes(facts), class_="scroll")),
        tag("details", tag("summary", "As a table"), table(head, lines, class_="figures")),
    )


def certainty(content: ReportContent, facts: Facts) -> Markup:
    """Histogram of confidence."""
    values = np.asarray(content.confidence, dtype=np.float64).reshape(-1)
    matched = None if facts.truth is None else facts.truth.matched(np.asarray(content.labels).reshape(-1))
    shows = "how large the largest cluster probability of each row is; the dashed line is 1/K, no preference at all."
    if matched is not None:
        shows += " Blue rows lie in the cluster matched to their label, orange ones do not."
    words = []
    if len(values):
        finite = np.nan_to_num(values, nan=0.0)
        low, high = percent((finite < 0.5).sum(), len(finite)), percent((finite > 0.99).sum(), len(finite))
        words.append(f"Median {number(np.median(finite), 3)}; {low} of the rows are below 0.5, {high} above 0.99.")
        if finite.min() == 1:
            words.append("Every row has confidence 1: this method assigns without degrees.")
        elif matched is not None and 0 < matched.sum() < len(matched):
            right, wrong = finite[matched].mean(), finite[~matched].mean()
            words.append(f"Mean {right:.3f} where cluster and label match, {wrong:.3f} where they do not.")
    return section(
        "confidence",
        "Confidence",
        shows,
        "how likely a row is right: deep models are often sure and wrong.",
        tag(
            "div",
            tag("p", " ".join(words)),
            tag("figure", confidence(values, matched, facts.clusters)),
            class_="split turned" if facts.clusters > WIDE else None,
        ),
    )


def matches(facts: Facts, truth: Truth) -> Markup:
    """The confusion matrix and its largest errors."""
    shows = (
        "how the rows of each given label spread over the clusters, as counts and as a share of the label. Columns are "
        "ordered so that the one-to-one matching with the most rows in common (the Hungarian method) lies on the "
        "diagonal, in blue; other cells are orange."
    )
    if truth.merged:
        shows += f" There are more than {len(truth.names)} labels; the {truth.merged:,} rarest are one line."
    hides = "which of two clusters is wrong when the labels themselves are ambiguous."
    lines = [
        (f"{truth.names[i]}", *(count(truth.counts[i, k]) if truth.counts[i, k] else "" for k in truth.columns))
        for i in range(len(truth.names))
    ]
    counts = None
    if max(truth.counts.shape) <= MOST_CELLS:
        counts = tag(
            "details",
            tag("summary", "As a table"),
            table(("label", *(f"cluster {k}" for k in truth.columns)), lines, class_="figures"),
        )
    beside = tag("div", *_errors(facts, truth))
    return section(
        "confusion",
        "Clusters against labels",
        shows,
        hides,
        tag("div", tag("figure", tag("div", confusion(truth), class_="scroll")), beside, class_="split"),
        counts,
    )


def _errors(facts: Facts, truth: Truth) -> list[Markup]:
    """The largest cells off the diagonal, in words."""
    off = truth.counts.copy()
    for i, k in truth.cluster.items():
        off[i, k] = 0
    total, hit = int(truth.counts.sum()), int(truth.counts.sum() - off.sum())
    label = truth.label_of()
    parts = [
        tag(
            "p",
            tag("b", percent(hit, facts.rows)),
            f" of the rows ({hit:,} of {facts.rows:,}) lie in the cluster matched to their label.",
        )
    ]
    spare = [k for k in range(facts.clusters) if k not in label]
    if spare and len(spare) <= 30:
        noun = "cluster" if len(spare) == 1 else "clusters"
        parts.append(tag("p", f"Without a label of their own: {noun} {', '.join(map(str, spare))}."))
    lone = [name for i, name in enumerate(truth.names) if i not in truth.cluster]
    if lone and len(lone) <= 30:
        parts.append(
            tag("p", f"Without a cluster of their own: {'label' if len(lone) == 1 else 'labels'} {', '.join(lone)}.")
        )
    if hit == total:
        return parts
    items = []
    for cell in np.argsort(-off, axis=None, kind="stable")[:8]:
        i, k = np.unravel_index(cell, off.shape)
        if off[i, k]:
            other = f", matched to label {truth.names[label[k]]}" if int(k) in label else ", matched to no label"
            items.append(
                tag(
                    "li",
                    tag("b", count(off[i, k], "row")),
                    f" of label {truth.names[i]} ({percent(off[i, k], truth.counts[i].sum())}) in cluster {k}{other}",
                )
            )
    return [*parts, tag("h3", "Largest disagreements"), tag("ol", *items)]


def example_rows(content: ReportContent, facts: Facts) -> Markup:
    """Rows nearest to each center."""
    empty = f" Empty clusters have none: {', '.join(map(str, facts.empty[:30]))}." if facts.empty else ""
    if content.image_shape is not None:
        return section(
            "examples",
            "Examples near each center",
            f"the rows whose codes are nearest to the center of their cluster, nearest first; "
            f"point at a picture for its row number.{empty}",
            "the variety or the border of a cluster: these are its most typical rows.",
            cards(content, facts),
        )
    return section(
        "examples",
        "Examples near each center",
        "the rows whose codes are nearest to the center of their cluster, and the features in which "
        f"their mean is farthest from the mean over the examples of all clusters, in standard deviations.{empty}",
        "the border of a cluster, nor which features the method used.",
        feature_table(content, facts),
    )
