"""The bench as one HTML page, and the files in its folder."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from deepclust_accel.atomic import write_atomic
from deepclust_accel.bench.quality import plots
from deepclust_accel.bench.quality.summary import METRICS, NOTES, shown_score
from deepclust_accel.bench.record import prepare
from deepclust_accel.report.document import document
from deepclust_accel.report.markup import Markup, join, number, table, tag

__all__ = ["render", "write"]

_HEAD = ("method", "epochs", "seeds", "ACC", "best", "NMI", "NMI max", "ARI", "seconds", "MiB")


def write(summary: dict[str, Any], folder: Path) -> None:
    """Write results.json (the summary) and quality.html into ``folder``; OutputError when that cannot be done."""
    prepare(folder)
    write_atomic(folder / "results.json", (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode())
    write_atomic(folder / "quality.html", render(summary).encode())


def render(summary: dict[str, Any]) -> str:
    """Return the page; the same summary gives the same text."""
    names = list(dict.fromkeys(row["data"] for row in summary["rows"]))
    links = [
        *((name, f"data-{i}") for i, name in enumerate(names)),
        ("over data sets", "ranks"),
        ("published", "published"),
    ]
    header = tag(
        "header",
        tag("p", "deepclust_accel · quality bench", class_="over"),
        tag("h1", "Methods", tag("span", " on "), ", ".join(names) or "nothing yet"),
        tag("p", " ".join(NOTES), class_="lead"),
        tag("nav", *(tag("a", text, href=f"#{anchor}") for text, anchor in links), aria_label="Sections"),
    )
    parts = [
        _data(name, f"data-{i}", [r for r in summary["rows"] if r["data"] == name]) for i, name in enumerate(names)
    ]
    main = tag("main", *parts, _ranks(summary["significance"]), _published(summary["rows"]))
    return document("quality bench", header, main, colors=(0, 1), version=metadata.version("deepclust-accel"))


def _data(name: str, anchor: str, rows: list[dict[str, Any]]) -> Markup:
    scored = [row for row in rows if row["seeds"]]
    reads = "Bars: mean ACC, with its standard deviation and a dot for each seed; diamonds: published. Blue: baselines."
    pictures = None
    if scored:
        pictures = tag("div", tag("figure", plots.bars(scored)), tag("figure", plots.over_time(scored)), class_="maps")
    lost = [tag("li", f"{row['label']}, seed {f['seed']}: failed: {f['reason']}", class_="serious")
            for row in rows for f in row["failed"]]  # fmt: skip
    lost += [tag("li", f"{row['label']}: does not fit: {row['unfit']}") for row in rows if row["unfit"]]
    return tag(
        "section",
        tag("h2", name),
        tag("p", reads, class_="reads"),
        pictures,
        table(_HEAD, [_line(row) for row in scored], class_="figures"),
        tag("ul", *lost, class_="remarks") if lost else None,
        id=anchor,
    )


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    acc = shown_score(row["acc"])
    peak = "–" if row["peak_bytes"] is None else number(row["peak_bytes"] / 2**20, 3)
    return (
        row["label"],
        f"×{row['epochs_scale']:g}",
        len(row["seeds"]),
        tag("b", acc) if row["best_of_data"] else acc,
        f"{100 * row['acc']['best']:.1f}",
        *(shown_score(row[metric]) for metric in METRICS[1:]),
        number(row["seconds"], 3),
        peak,
    )


def _ranks(found: dict[str, Any]) -> Markup:
    without = f" Without {', '.join(found['left_out'])}, which lack a data set." if found["left_out"] else ""
    test = found["test"]
    named = f"{test['name']}: statistic {number(test['statistic'])}, " if test else ""
    return tag(
        "section",
        tag("h2", "Over data sets"),
        tag("p", f"{named}{found['note']}.{without}", class_="reads"),
        tag("figure", plots.ranks(found)) if found["ranks"] else None,
        id="ranks",
    )


def _published(rows: list[dict[str, Any]]) -> Markup:
    lines = [
        (
            row["label"],
            row["data"],
            f"{shown_score(row['acc'])} (×{row['epochs_scale']:g})",
            " / ".join(f"{quote[m]:g}" for m in METRICS if m in quote),
            ", ".join(m.replace("_", " ").upper() for m in METRICS if m in quote),
            join([tag("a", quote["paper"], href=quote["url"]), f", {quote['where']}; {quote['note']}"]),
        )
        for row in rows
        if row["seeds"]
        for quote in row["published"]
    ]
    head = ("method", "data", "our ACC (epochs)", "published", "which", "source")
    return tag("section", tag("h2", "Published numbers beside ours"), table(head, lines), id="published")
