"""How the run was made: parameters and where they came from, kernels, times, versions, and the command to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deepclust_accel.report.facts import entry, is_number, mapping, ran_on
from deepclust_accel.report.markup import Markup, number, plain, table, tag

__all__ = ["reproduce", "run_details"]


def run_details(run: Mapping[str, Any]) -> Markup:
    """Tables of everything that decided the result."""
    blocks = [
        _block("Parameters", _parameters(mapping(run, "params"))),
        _block("Kernels", _kernels(mapping(run, "kernels"))),
        _block("Seconds a stage", _seconds(mapping(run, "seconds"))),
        _block("Data and settings", _settings(run)),
        _block("Versions", _pairs(mapping(run, "versions"), ("package", "version"))),
    ]
    note = "every setting with its value and where that came from; marked rows differ from the method's default."
    return tag(
        "section",
        tag("h2", "Run details"),
        tag("p", tag("b", "Shows "), note, class_="reads"),
        tag("div", *(b for b in blocks if b is not None), class_="blocks"),
        id="details",
    )


def reproduce(run: Mapping[str, Any]) -> Markup:
    """The command, ready to copy."""
    command = run.get("command")
    if not command:
        body = tag(
            "p", "This run was not started by a command; the parameters above repeat it from Python.", class_="reads"
        )
    else:
        note = (
            "Repeats this run: the same seed, versions and number of threads give the same clusters. "
            "Give another --out to keep this one."
        )
        body = tag(
            "div",
            tag("p", note, class_="reads"),
            tag(
                "div",
                tag("pre", tag("code", command)),
                tag("button", "Copy", type="button", class_="copy", hidden="hidden"),
                class_="command",
            ),
        )
    return tag("section", tag("h2", "Reproduce"), body, id="reproduce")


def _block(title: str, content: Markup | None) -> Markup | None:
    return None if content is None else tag("div", tag("h3", title), content, class_="block")


def _parameters(params: Mapping[str, Any]) -> Markup | None:
    rows = []
    for name, fact in params.items():
        value, origin = (fact.get("value"), fact.get("origin")) if isinstance(fact, Mapping) else (fact, None)
        changed = origin not in (None, "default")
        rows.append(
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", _show(value)),
                tag("td", plain(origin or "not recorded")),
                class_="changed" if changed else None,
            )
        )
    return table(("parameter", "value", "from"), rows) if rows else None


def _kernels(kernels: Mapping[str, Any]) -> Markup | None:
    rows = []
    for name, fact in kernels.items():
        calls = fact.get("calls") if isinstance(fact, Mapping) else None
        rows.append((name, *ran_on(fact), "" if calls is None else _show(calls)))
    if not rows:
        return tag("p", "No operator of this package was used.", class_="reads")
    if not any(row[3] for row in rows):
        return table(("operator", "ran on", "why"), (row[:3] for row in rows))
    return table(("operator", "ran on", "why", "calls"), rows)


def _seconds(seconds: Mapping[str, Any]) -> Markup | None:
    times = {str(k): float(v) for k, v in seconds.items() if is_number(v) and math.isfinite(v)}
    if not times:
        return None
    longest = max(times.values()) or 1.0
    rows = [
        (stage, number(t, 3), tag("span", tag("i", style=f"width:{max(0.0, 100 * t / longest):.1f}%"), class_="meter"))
        for stage, t in times.items()
    ]
    return table(("stage", "seconds", ""), [*rows, ("total", number(sum(times.values()), 3), "")])


def _settings(run: Mapping[str, Any]) -> Markup | None:
    found = {
        "method": run.get("method"),
        "clusters": run.get("n_clusters"),
        "seed": run.get("seed"),
        "scaling": run.get("scaling"),
        "device": run.get("device"),
        "precision": run.get("precision"),
        "created": run.get("created"),
        "folder": run.get("out"),
        "labels from": run.get("labels"),
    }
    found |= {f"data {key}": value for key, value in mapping(run, "data").items() if key != "feature_names"}
    plugin = entry(run, "plugin")
    if isinstance(plugin, Mapping):
        found["plugin"] = " ".join(plain(v) for v in plugin.values())
    return _pairs({k: v for k, v in found.items() if v is not None}, ("setting", "value"))


def _pairs(values: Mapping[str, Any], head: tuple[str, str]) -> Markup | None:
    return table(head, ((name, _show(value)) for name, value in values.items())) if values else None


def _show(value: Any) -> str:
    """Return a value the way it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_show(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_show(v) for v in value) or "none"
    return plain(value)
