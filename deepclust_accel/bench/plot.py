"""The picture: time, memory and share of the machine's speed over N, one row of panels per operator."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from deepclust_accel.bench.record import threads

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MIB = 2**20
_COLORS = {"native": "#1b6ca8", "reference": "#8a8a8a", "eager": "#c8553d", "compile": "#e0a030", "keops": "#5b8e55"}


def draw(results: dict[str, Any]) -> bytes:
    """Return the picture as PNG; results as `kernels.measure` gives them."""
    from matplotlib.figure import Figure

    operators = results["settings"]["operators"]
    figure = Figure(figsize=(16, 4.6 * len(operators)), layout="constrained")
    panels = figure.subplots(len(operators), 3, squeeze=False)
    for (time, memory, share), (operator, about) in zip(panels, operators.items(), strict=True):
        entries = [e for e in results["results"] if e["operator"] == operator and e["phase"] == "both"]
        sizes = sorted({e["rows"] for e in entries})
        for name in results["settings"]["providers"]:
            mine = sorted((e for e in entries if e["provider"] == name), key=lambda e: e["rows"])
            timed = [e for e in mine if e["median_s"] is not None]
            _draw_time(time, name, timed)
            _draw_share(share, name, timed)
            _draw_memory(memory, name, mine)
        _label(time, f"{operator}: forward + backward\n{about['shape']}", "milliseconds", sizes)
        _label(memory, "peak memory above the inputs", "MiB", sizes)
        _label(share, "necessary multiply-adds, as a share of a large matrix product's speed", "%", sizes)
    machine = results["machine"]
    kernels = machine["instruction_set"] or "no native kernels"
    figure.suptitle(f"{machine['cpu']}, {threads(machine)}, {kernels}", fontsize=9, color="#555555")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _draw_time(axes: Axes, name: str, entries: list[dict[str, Any]]) -> None:
    if not entries:
        return
    rows = [e["rows"] for e in entries]
    color = _COLORS.get(name)
    (line,) = axes.plot(rows, [1e3 * e["median_s"] for e in entries], "o-", ms=4, label=name, color=color)
    low, high = ([1e3 * e[key] for e in entries] for key in ("q1_s", "q3_s"))
    axes.fill_between(rows, low, high, color=line.get_color(), alpha=0.25, linewidth=0)


def _draw_share(axes: Axes, name: str, entries: list[dict[str, Any]]) -> None:
    if entries:
        shares = [100 * e["share_of_matmul"] for e in entries]
        axes.plot([e["rows"] for e in entries], shares, "o-", ms=4, label=name, color=_COLORS.get(name))


def _draw_memory(axes: Axes, name: str, entries: list[dict[str, Any]]) -> None:
    """Measured peaks as a line; sizes that did not fit as crosses where they were predicted."""
    color = _COLORS.get(name)
    # A small run can fit into pages that were there before: nothing above the inputs, and no place on a log axis.
    measured = [e for e in entries if e["peak_bytes"]]
    if measured:
        axes.plot(
            [e["rows"] for e in measured],
            [e["peak_bytes"] / _MIB for e in measured],
            "o-",
            ms=4,
            color=color,
            label=name,
        )
    refused = [e for e in entries if e["predicted_bytes"]]
    if refused:
        axes.plot(
            [e["rows"] for e in refused],
            [e["predicted_bytes"] / _MIB for e in refused],
            "x",
            ms=8,
            color=color,
            label=f"{name}: out of memory (predicted)",
        )


def _label(axes: Axes, title: str, unit: str, sizes: list[int]) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set(xscale="log", yscale="log", title=title, xlabel="rows N", ylabel=unit)
    axes.title.set_fontsize(10)
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="both", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
