"""The page of a run: header and sections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deepclust_accel.report import sections
from deepclust_accel.report.content import ReportContent
from deepclust_accel.report.details import reproduce, run_details
from deepclust_accel.report.document import document
from deepclust_accel.report.facts import Facts, digest, entry, is_number, mapping
from deepclust_accel.report.figures import WIDE
from deepclust_accel.report.markup import Markup, count, join, number, tag

__all__ = ["render"]

SCORES = {
    "acc": ("Accuracy", "rows in the cluster matched to their label"),
    "nmi": ("NMI", "information shared with the labels, over the mean entropy"),
    "nmi_max": ("NMI max", "the same, over the larger entropy"),
    "ari": ("ARI", "agreement on pairs of rows; 0 is chance"),
}
LABEL_FREE = {
    "silhouette": "Silhouette, −1 to 1, higher is better",
    "davies_bouldin": "Davies-Bouldin, lower is better",
    "calinski_harabasz": "Calinski-Harabasz, higher is better",
}


def render(content: ReportContent) -> str:
    """Return the report as one HTML page that loads nothing; the same content gives the same text."""
    facts = digest(content)
    run = content.run
    parts = [
        sections.maps(content, facts),
        sections.curves(content),
        _side_by_side(facts, sections.group_sizes(facts), sections.certainty(content, facts)),
        sections.matches(facts, facts.truth) if facts.truth is not None else None,
        sections.example_rows(content, facts),
        run_details(run),
        reproduce(run),
    ]
    version = entry(run, "versions", "deepclust_accel") or entry(run, "versions", "deepclust-accel")
    used = list(range(facts.clusters)) + (facts.truth.colors if facts.truth else [])
    return document(_title(run), _header(run, facts), tag("main", *parts), colors=used, version=version)


def _title(run: Mapping[str, Any]) -> str:
    return f"{run.get('method') or 'clustering'} on {entry(run, 'data', 'name') or 'data'}"


def _header(run: Mapping[str, Any], facts: Facts) -> Markup:
    method, data = run.get("method") or "clustering", entry(run, "data", "name") or "data"
    shape = entry(run, "data", "shape")
    cells: list[tuple[str, object]] = [("rows", count(facts.rows))]
    if isinstance(shape, (list, tuple)) and shape:
        cells.append(("values a row", " × ".join(map(str, shape))))
    cells.append(("clusters", count(facts.clusters)))
    seconds = [v for v in mapping(run, "seconds").values() if is_number(v) and math.isfinite(v)]
    extra = [
        ("seed", run.get("seed")),
        ("scaling", run.get("scaling")),
        ("device", run.get("device")),
        ("time", _duration(sum(seconds)) if seconds else None),
        ("date", _date(run.get("created"))),
    ]
    cells += [(name, value) for name, value in extra if value is not None]
    links = [
        ("map", "Map"),
        ("training", "Training"),
        ("sizes", "Sizes"),
        ("confidence", "Confidence"),
        *([("confusion", "Labels")] if facts.truth is not None else []),
        ("examples", "Examples"),
        ("details", "Run details"),
        ("reproduce", "Reproduce"),
    ]
    return tag(
        "header",
        tag("p", "deepclust_accel · clustering report", class_="over"),
        tag("h1", method, tag("span", " on "), data),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in cells), class_="facts"),
        _scores(run, facts),
        _remarks(facts),
        tag("nav", *(tag("a", text, href=f"#{name}") for name, text in links), aria_label="Sections"),
    )


def _scores(run: Mapping[str, Any], facts: Facts) -> Markup:
    scores, free = mapping(run, "scores"), mapping(run, "label_free")
    parts = []
    if scores:
        parts.append(tag("div", *(_score(str(k), v) for k, v in scores.items()), class_="scores"))
    elif facts.truth is None:
        parts.append(
            tag(
                "p",
                "No labels given, so there is no accuracy, NMI or ARI: judge by the map, the sizes and the examples.",
                class_="lead",
            )
        )
    if free:
        rows = free.get("silhouette_rows")
        note = {"silhouette": f" (on {count(rows, 'row')})"} if isinstance(rows, int) and rows < facts.rows else {}
        cells = (
            tag(
                "div",
                tag("dt", LABEL_FREE.get(str(k), str(k).replace("_", " "))),
                tag("dd", "not defined" if v is None else number(v, 3), note.get(str(k))),
            )
            for k, v in free.items()
            if k not in ("silhouette_rows", "silhouette_seed")
        )
        parts.append(tag("dl", *cells, class_="facts"))
    return join(parts)


def _score(name: str, value: Any) -> Markup:
    title, meaning = SCORES.get(name, (name.replace("_", " "), ""))
    if not is_number(value) or not math.isfinite(value):
        return tag("div", tag("strong", title), tag("b", "not defined"), tag("small", meaning), class_="score")
    shown = f"{100 * value:.1f} %".replace("-", "−")
    bar = tag("span", tag("i", style=f"width:{min(100.0, max(0.0, 100 * value)):.1f}%"), class_="meter")
    return tag("div", tag("strong", title), tag("b", shown), bar, tag("small", meaning), class_="score")


def _remarks(facts: Facts) -> Markup | None:
    items = [tag("li", text, class_="serious" if serious else None) for serious, text in facts.remarks]
    return tag("ul", *items, class_="remarks", aria_label="Remarks") if items else None


def _side_by_side(facts: Facts, left: Markup, right: Markup) -> Markup:
    return tag("div", left, right, class_="duo") if facts.clusters <= WIDE else join([left, right])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{number(seconds, 3)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _date(created: Any) -> str | None:
    """Return the time of the run to the minute, or as it was recorded if it is no ISO time."""
    if not created:
        return None
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return str(created)
    zone = moment.strftime("%Z") if moment.tzinfo else ""
    return f"{moment:%Y-%m-%d %H:%M} {zone}".strip()
