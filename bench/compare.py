"""Compare two recordings of ``dcaccel bench kernels --out``: a table of ratios; exit 1 if something became slower.

    python bench/compare.py bench/results/before.json bench/results/after.json

Exit codes: 0 nothing above the limit; 1 something above it, or no longer measurable; 2 a recording cannot be used.
Standard library only, so that it runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

KEY = ("operator", "rows", "provider", "phase")
COLUMNS = "{:<24} {:>7} {:<10} {:<9} {:>10} {:>10} {:>7} {}"


def load(path: Path) -> dict:
    """Read one recording; exit with code 2 and one line if it is not one."""
    try:
        recording = json.loads(path.read_text())
        for entry in recording["results"]:
            [entry[name] for name in (*KEY, "status", "median_s", "share_of_matmul")]
        recording["machine"], recording["matmul_gflops"]["median"]
    except OSError as error:
        raise SystemExit(complain(path, error.strerror)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(complain(path, f"{type(error).__name__}: {error}")) from None
    return recording


def complain(path: Path, got: object) -> int:
    message = "expected a results.json of `dcaccel bench kernels --out DIR`"
    print(f"{path}: {message}, got {got}; record it again", file=sys.stderr)
    return 2


def compare(before: dict, after: dict, *, deciding: set[str], limit: float, relative: bool) -> tuple[list[tuple], bool]:
    """Rows of the table (key, before, after, ratio, note), and whether a deciding one is above the limit.

    ``relative`` compares times in units of the matrix product of the same rounds, for two different machines.
    """
    old, new = ({tuple(e[name] for name in KEY): e for e in r["results"]} for r in (before, after))
    rows, slower = [], False
    for key in old.keys() & new.keys():
        first, second = old[key], new[key]
        decides = key[2] in deciding
        if first["status"] != "ok":
            continue
        if second["status"] != "ok":
            rows.append((key, first["median_s"], None, None, second["status"]))
            slower |= decides
            continue
        ratio = second["median_s"] / first["median_s"]
        if relative:
            ratio = first["share_of_matmul"] / second["share_of_matmul"]
        above = decides and ratio > limit
        slower |= above
        rows.append((key, first["median_s"], second["median_s"], ratio, "SLOWER" if above else ""))
    return sorted(rows, key=lambda row: row[0]), slower


def differences(before: dict, after: dict) -> list[str]:
    """What makes the two recordings hard to compare."""
    pairs = ((name, before["machine"].get(name), after["machine"].get(name))
             for name in ("cpu", "threads", "instruction_set"))  # fmt: skip
    return [f"{name} differs: {one} and {two}" for name, one, two in pairs if one != two]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--limit", type=float, default=1.10, help="largest ratio after/before [1.10]")
    parser.add_argument("--providers", default="native", help="whose ratios decide, comma-separated, or all [native]")
    parser.add_argument("--relative", action="store_true", help="times in units of the matrix product, not seconds")
    given = parser.parse_args(arguments)
    before, after = load(given.before), load(given.after)
    everyone = {entry["provider"] for entry in before["results"]}
    deciding = everyone if given.providers == "all" else set(given.providers.split(","))
    rows, slower = compare(before, after, deciding=deciding, limit=given.limit, relative=given.relative)
    if not any(key[2] in deciding for key, *_ in rows):
        return complain(given.after, f"nothing in common with {given.before} for {', '.join(sorted(deciding))}")
    speeds = [recording["matmul_gflops"]["median"] for recording in (before, after)]
    print(f"matrix product: {speeds[0]:.1f} and {speeds[1]:.1f} GFLOP/s")
    for line in differences(before, after):
        print(f"careful: {line}")
    print(COLUMNS.format("operator", "N", "provider", "phase", "before ms", "after ms", "ratio", "").rstrip())
    for key, first, second, ratio, note in rows:
        times = ["" if seconds is None else f"{1e3 * seconds:.4g}" for seconds in (first, second)]
        cells = [*times, "" if ratio is None else f"{ratio:.3f}"]
        print(COLUMNS.format(*key, *cells, note).rstrip())
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
