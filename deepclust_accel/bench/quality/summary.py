"""What a record of cells says: a row a data set, method and share of the epochs; ranks; published numbers."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from deepclust_accel.bench.quality.grid import BASELINES
from deepclust_accel.bench.quality.significance import compare

__all__ = ["METRICS", "published", "shown_score", "summarize", "text"]

METRICS = ("acc", "nmi", "nmi_max", "ari")
NOTES = (
    "Last epoch, K = number of classes, labels for these scores only; best: the best of the seeds, found by labels.",
    "ACC by Hungarian matching; NMI over the mean entropy, NMI max over the larger; all in %, ± standard deviation.",
    "epochs: share of the default number. Seconds: of the processor for a fit on one thread (its time on an idle machine), "
    "median of the seeds. MiB: largest peak of the process.",
)
Row = dict[str, Any]


def summarize(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return ``rows``, and ``significance`` of their mean ACC.

    A row has the cells of one data set, label and epochs scale that share the settings recorded last; others are counted in
    ``other_settings``. Rows come by data set, baselines first, then by mean ACC, whose highest has ``best_of_data``.
    """
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["data"], cell["label"], cell["epochs_scale"]), []).append(cell)
    quotes = published()
    rows = [_row(key, group, quotes) for key, group in groups.items()]
    for data in {row["data"] for row in rows}:
        scored = [row for row in rows if row["data"] == data and row["seeds"]]
        for row in scored:
            row["best_of_data"] = row["acc"]["mean"] == max(r["acc"]["mean"] for r in scored)
    rows.sort(key=_order)
    longest: dict[str, dict[str, Row]] = {}  # of several epochs scales the largest speaks for a method
    for row in sorted((row for row in rows if row["seeds"]), key=lambda r: r["epochs_scale"]):
        longest.setdefault(row["label"], {})[row["data"]] = row
    means = {label: {data: row["acc"]["mean"] for data, row in found.items()} for label, found in longest.items()}
    return {"rows": rows, "significance": compare(means)}


def _row(key: tuple[str, str, float], group: list[dict[str, Any]], quotes: list[dict[str, Any]]) -> Row:
    data, label, scale = key
    same = [cell for cell in group if cell["params"] == group[-1]["params"]]
    ok = sorted((cell for cell in same if cell["status"] == "ok"), key=lambda cell: cell["seed"])
    row: Row = {"data": data, "label": label, "method": same[-1]["method"], "epochs_scale": scale}
    row |= {"seeds": [cell["seed"] for cell in ok], "best_of_data": False, "other_settings": len(group) - len(same)}
    for metric in METRICS:
        row[metric] = _spread([cell[metric] for cell in ok])
    peaks = [cell["peak_bytes"] for cell in ok if cell["peak_bytes"] is not None]
    return row | {
        "seconds": statistics.median(cell["seconds"] for cell in ok) if ok else None,
        "wall_seconds": statistics.median(cell["wall_seconds"] for cell in ok) if ok else None,
        "peak_bytes": max(peaks, default=None),
        "failed": [{"seed": c["seed"], "reason": c["reason"]} for c in same if c["status"] == "failed"],
        "unfit": next((c["reason"] for c in same if c["status"] == "unfit"), None),
        "published": [quote for quote in quotes if (quote["label"], quote["data"]) == (label, data)],
    }


def _spread(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": spread, "best": max(values), "values": values}


def _order(row: Row) -> tuple[Any, ...]:
    first = BASELINES.index(row["label"]) if row["label"] in BASELINES else len(BASELINES)
    return row["data"], first, -(row["acc"]["mean"] if row["acc"] else -1), row["label"], -row["epochs_scale"]


def published() -> list[dict[str, Any]]:
    """Return the numbers of ``published.toml``, a dict a label, data set and source, scores in %."""
    content = tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text())
    return [
        {
            "label": label,
            "data": data,
            **dict(zip(quote["metrics"], numbers, strict=True)),
            "where": quote["where"],
            **content["sources"][quote["source"]],
        }
        for quote in content["quote"]
        for label, by_data in quote["values"].items()
        for data, numbers in by_data.items()
    ]


def text(summary: dict[str, Any], table: Any) -> str:
    """The summary for a terminal; ``table`` aligns a header and rows."""
    lines = []
    header = ("method", "epochs", "seeds", "ACC", "best", "NMI", "NMI max", "ARI", "s", "MiB", "published ACC")
    for data in dict.fromkeys(row["data"] for row in summary["rows"]):
        mine = [row for row in summary["rows"] if row["data"] == data]
        lines += [f"{data} (* highest mean)", table(header, [_cells(row) for row in mine if row["seeds"]]), ""]
        for row in mine:
            lines += [f"  {row['label']}, seed {f['seed']}: failed: {f['reason']}" for f in row["failed"]]
            lines += [f"  {row['label']}: does not fit: {row['unfit']}"] if row["unfit"] else []
            if row["other_settings"]:
                lines.append(f"  {row['label']}: {row['other_settings']} cells with other settings left out")
    found = summary["significance"]
    lines += ["", f"over {len(found['data'])} data sets: {found['note']}"]
    lines += ["  mean rank of ACC: " + ", ".join(f"{m} {rank:.2f}" for m, rank in found["ranks"].items())]
    if found["critical_difference"]:
        lines.append(f"  Nemenyi: ranks further apart than {found['critical_difference']:.2f} differ")
    if found["left_out"]:
        lines.append(f"  without {', '.join(found['left_out'])}, which lack a data set")
    return "\n".join([*lines, "", *NOTES])


def shown_score(score: dict[str, Any] | None) -> str:
    """Return mean ± standard deviation in percent."""
    if score is None:
        return "–"
    spread = "" if score["std"] is None else f" ± {100 * score['std']:.1f}"
    return f"{100 * score['mean']:.1f}{spread}"


def _cells(row: Row) -> tuple[str, ...]:
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
    return (
        row["label"],
        f"{row['epochs_scale']:g}",
        str(len(row["seeds"])),
        shown_score(row["acc"]) + " *" * row["best_of_data"],
        f"{100 * row['acc']['best']:.1f}",
        *(shown_score(row[metric]) for metric in METRICS[1:]),
        f"{row['seconds']:.1f}",
        peak,
        "; ".join(f"{q['acc']:g} ({q['paper']}, {q['where']})" for q in row["published"]),
    )
