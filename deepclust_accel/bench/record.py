"""What becomes of the measurements: a table for the terminal, results.json and a picture in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepclust_accel.atomic import write_atomic
from deepclust_accel.errors import OutputError

_HEADER = (
    *("N", "provider", "phase", "ms", "quartiles", "x native", "quartiles"),
    *("GFLOP/s", "of mm", "MiB", "error", "first s", "n"),
)
_MIB = 2**20


def text(results: dict[str, Any]) -> str:
    """Return what `kernels.measure` gave as aligned tables, one per operator."""
    machine, settings, product = results["machine"], results["settings"], results["matmul_gflops"]
    versions = machine["versions"]
    lines = [
        f"{machine['cpu']}, {threads(machine)}, kernels: {machine['instruction_set'] or 'none'}, "
        f"torch {versions.get('torch', '?')} ({machine['torch_instruction_set']})",
        f"matrix product {settings['matmul_size']}^3 in the same rounds: {product['median']:.1f} GFLOP/s "
        f"({product['q1']:.1f} to {product['q3']:.1f})",
    ]
    if (machine["load"] or 0) > machine["cores"] / 2:
        lines.append(
            f"careful: the machine was busy before (load {machine['load']:.1f} on {machine['cores']} cores); "
            "threads that wait for each other suffer most"
        )
    for operator, about in settings["operators"].items():
        entries = [entry for entry in results["results"] if entry["operator"] == operator]
        cells = [_cells(entry) for entry in entries if entry["status"] == "ok"]
        lines += ["", f"{operator}, {about['shape']}", *(_aligned(_HEADER, cells) if cells else [])]
        lines += [_failure(entry) for entry in entries if entry["status"] not in ("ok", "unavailable") if _last(entry)]
        lines += [
            f"  N={e['rows']} {e['provider']}: no peak memory: {e['reason']}"
            for e in entries
            if e["status"] == "ok" and e["reason"] and _last(e)
        ]
    lines += [f"  {name}: left out: {why}" for name, why in results["providers"].items() if why != "available"]
    lines += [
        "",
        "ms: median of n interleaved rounds. x native: time over that of native, median of the rounds' quotients.",
        "GFLOP/s: necessary multiply-adds times two, the same count for all. of mm: as a share of the matrix product.",
        "MiB: peak above the inputs, forward + backward. error: worst relative L2 error of value and gradients.",
        "first s: first forward + backward at this size, not part of the times; compilers have caches, so it varies.",
    ]
    return "\n".join(lines)


def prepare(folder: Path) -> None:
    """Make the folder, and see that a file can be written there; OutputError otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        advice = "choose another --out"
        raise OutputError(f"{folder}: expected a folder to write into, got {error.strerror}; {advice}") from error


def write(
    results: dict[str, Any], folder: Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
) -> None:
    """Write results.json and, when matplotlib is there, time.png into ``folder``, which is made if need be.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    prepare(folder)
    write_atomic(folder / "results.json", (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
    from deepclust_accel.bench.plot import draw

    try:
        picture = draw(results)
    except ImportError as error:
        say(f"no time.png: {error}; pip install matplotlib (results.json is written)")
        return
    write_atomic(folder / "time.png", picture)


def threads(machine: dict[str, Any]) -> str:
    """The thread count in words."""
    count = machine["threads"]
    return "1 thread" if count == 1 else f"{count} threads"


def _last(entry: dict[str, Any]) -> bool:
    """Whether this is the entry of its provider and size that speaks for all three phases."""
    return entry["phase"] == "both"


def _failure(entry: dict[str, Any]) -> str:
    return f"  N={entry['rows']} {entry['provider']}: {entry['status']}: {entry['reason']}"


def _mebibytes(count: int) -> str:
    size = count / _MIB
    return f"{size:.0f}" if size >= 100 else f"{size:.3g}"


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    def milliseconds(key: str) -> str:
        return f"{1e3 * entry[key]:.4g}"

    def times(key: str) -> str:
        return "" if entry[key] is None else f"{entry[key]:.2f}"

    peak, both = entry["peak_bytes"], _last(entry)
    return (
        str(entry["rows"]),
        entry["provider"],
        entry["phase"],
        milliseconds("median_s"),
        f"{milliseconds('q1_s')} - {milliseconds('q3_s')}",
        times("ratio"),
        f"{times('ratio_q1')} - {times('ratio_q3')}" if entry["ratio"] is not None else "",
        f"{entry['gflops']:.2f}",
        f"{100 * entry['share_of_matmul']:.1f} %",
        _mebibytes(peak) if both and peak is not None else "",
        f"{entry['error']:.1e}" if both else "",
        f"{entry['first_call_s']:.2g}" if both else "",
        str(entry["repeats"]),
    )


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, words to the left and figures to the right."""
    words = {"provider", "phase"}
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = zip(header, row, widths, strict=True)
        return "  ".join(c.ljust(width) if name in words else c.rjust(width) for name, c, width in cells).rstrip()

    return [line(header), "  ".join("-" * width for width in widths), *map(line, rows)]
