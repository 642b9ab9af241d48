"""Writes the tables of the README and of docs/ from the recorded results, so that no figure is typed.

python bench/readme.py            # rewrite them between their markers
python bench/readme.py --check    # exit 1 if it would change
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "faq.md", ROOT / "docs" / "several_processes.md")


def kernels() -> str:
    """Time of forward + backward over N, and how many times slower the alternatives are, operator by operator."""
    records = [json.loads(path.read_text()) for path in sorted((RESULTS / "kernels").glob("*.json"))]
    others = ("eager", "compile", "keops")
    ratios = " | ".join(f"{p} / native" for p in others)
    lines = [
        f"| operator | N | native | of a matrix product | {ratios} | extra memory: native, eager |",
        "|---" * (5 + len(others)) + "|",
    ]
    for record in records:
        for operator, about in record["settings"]["operators"].items():
            lines += _operator_lines(record, operator, about["shape"], others)
    machines = {(r["machine"]["cpu"], r["machine"]["threads"], r["machine"]["instruction_set"]) for r in records}
    about = "; ".join(f"{cpu}, {threads} threads, {instructions}" for cpu, threads, instructions in sorted(machines))
    rounds = sorted({r["settings"]["repeats"] for r in records})
    lines.append(
        f"\n{about}, torch {records[0]['machine']['versions']['torch']}; float32, forward + backward, interleaved, median "
        f"of {' or '.join(map(str, rounds))} rounds. CPU only: nothing here was measured on a GPU."
    )
    return "\n".join(lines + _residual_block() + _kmeans_iteration() + _clustpy())


def _residual_block() -> list[str]:
    """The range over DCFAE's four shapes and both memory formats, in each type."""
    words = []
    for path in sorted((RESULTS).glob("residual_block_*.json"), reverse=True):  # float32 first
        record = json.loads(path.read_text())
        found = [r[f"ours {kind} by best"] for r in record["results"] for kind in ("channels_last", "contiguous")]
        parts = (
            ("the time of its two convolutions alone", "bare"),
            ("of eager", "eager"),
            ("of eager's activation memory", "peak_bytes"),
        )
        ranges = [(about, [r[key] for r in found]) for about, key in parts]
        says = ", ".join(f"{min(values):.2f} to {max(values):.2f} {about}" for about, values in ranges)
        words.append(f"{record['settings']['dtype']} {says}")
    if not words:
        return []
    return [
        "\n`residual_block`, a training step at DCFAE's shapes (batch 256: 64 × 16², 128 × 8², 256 × 4², 512 × 2²), "
        f"2 threads, the better memory format of theirs: {'; '.join(words)} (`bench/residual_block.py`)."
    ]


def _kmeans_iteration() -> list[str]:
    lines = []
    for record in sorted(
        (json.loads(path.read_text()) for path in RESULTS.glob("kmeans_iteration_*.json")), key=lambda r: r["clusters"]
    ):
        mine = record["seconds"].pop("ours")
        others = ", ".join(f"{name} {record['ratio'][name]:.2g}×" for name in record["seconds"])
        lines.append(f"K = {record['clusters']}: {_milliseconds(statistics.median(mine))}; {others}")
        rows = f"{record['rows']:,} × {record['columns']}"
    return [f"\nOne exact k-means iteration of {rows} rows, {'. '.join(lines)} (`bench/kmeans_iteration.py`)."] * bool(
        lines
    )


def _clustpy() -> list[str]:
    path = RESULTS / "clustpy_epochs.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    ratios = ", ".join(f"`{r['method']}` {r['ours_by_clustpy']:.2f}" for r in record["results"])
    threads = record["settings"]["threads"]
    about = f"ClustPy {record['clustpy']}, {record['machine']['cpu']}, {threads} thread{'s' * (threads > 1)}"
    return [
        f"\nAn epoch of clustering, of ClustPy's time for the same work: {ratios} ({about}; `bench/clustpy_epochs.py`)."
    ]


def _operator_lines(record: dict, operator: str, shape: str, others: tuple[str, ...]) -> list[str]:
    rows = {
        (r["rows"], r["provider"]): r for r in record["results"] if r["phase"] == "both" and r["operator"] == operator
    }
    lines = []
    for n in sorted({n for n, _ in rows}):
        native = rows[n, "native"]
        ratios = " | ".join(_ratio(rows.get((n, p))) for p in others)
        memory = f"{_mebibytes(native)}, {_mebibytes(rows.get((n, 'eager'), {}))}"
        name = f"`{operator}`, {shape.removesuffix(', float32')}" if not lines else ""
        mine = f"{_milliseconds(native['median_s'])} | {native['share_of_matmul']:.0%}"
        lines.append(f"| {name} | {n:,} | {mine} | {ratios} | {memory} |")
    return lines


def readings() -> str:
    """ACC of DVAE's readings beside ae-kmeans."""
    sys.path.insert(0, str(ROOT / "bench"))
    from dvae_readings import table

    return table(json.loads((RESULTS / "dvae_readings.json").read_text()))


def quality() -> str:
    """Mean ACC of every method on every data set."""
    rows = [row for row in _quality_rows() if row["seeds"]]
    data = list(dict.fromkeys(row["data"] for row in rows))
    found = {(row["label"], row["data"]): row for row in sorted(rows, key=lambda row: row["epochs_scale"])}
    lines = [f"| method | {' | '.join(data)} |", "|---" * (1 + len(data)) + "|"]
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = [_quality_cell(found.get((label, name))) for name in data]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def published() -> str:
    """What papers report beside what we get, by default and with the settings that happened to do best there."""
    lines = ["| data | method | they say: ACC % | we get | other settings | source |", "|---" * 6 + "|"]
    rows = [row for row in _quality_rows() if row["seeds"]]
    for row in rows:
        for quote in row["published"]:
            source = f"[{quote['paper']}]({quote['url']}), {quote['where']}"
            about = f"| {row['data']} | `{row['label']}` | {quote['acc']:g} | {_quality_cell(row)}"
            lines.append(f"{about} | {_best_variant(row, rows)} | {source} |")
    return "\n".join(lines)


def _best_variant(row: dict, rows: list[dict]) -> str:
    """The recorded settings of the same method with the highest mean, where that is above the default's."""
    others = [r for r in rows if r["data"] == row["data"] and r["label"].startswith(f"{row['label']} ")]
    best = max(others, key=lambda r: r["acc"]["mean"], default=None)
    if best is None or best["acc"]["mean"] <= row["acc"]["mean"]:
        return "–"
    return f"{_quality_cell(best)}: `{best['label'].partition(' ')[2]}`"


def _quality_rows() -> list[dict]:
    sys.path.insert(0, str(ROOT))  # this checkout, not an installed one
    from deepclust_accel.bench.quality import read, summarize

    return summarize(read(RESULTS / "quality"))["rows"]


def _quality_cell(row: dict | None) -> str:
    """ACC with spread, seeds when not 5, share of the epochs when not all; the best of a data set in bold."""
    from deepclust_accel.bench.quality.summary import shown_score

    if row is None:
        return "–"
    score = f"**{shown_score(row['acc'])}**" if row["best_of_data"] else shown_score(row["acc"])
    notes = [f"{len(row['seeds'])}"] * (len(row["seeds"]) != 5) + [f"×{row['epochs_scale']:g}"] * (
        row["epochs_scale"] != 1
    )
    return f"{score} ({', '.join(notes)})" if notes else score


def parity() -> str:
    """What several processes find beside what one finds, method by method."""
    record = json.loads((RESULTS / "parity.json").read_text())
    kinds = ("losses", "gradients", "centers", "targets")
    lines = [f"| method | {' | '.join(kinds)} | labels | epochs until the end |", "|---" * (3 + len(kinds)) + "|"]
    for method, found in record["methods"].items():
        worst = " | ".join(_worst(found.values(), kind) for kind in kinds)
        labels = "equal" if all(row["same_labels"] for row in found.values()) else "**differ**"
        epochs = next(iter(found.values()))["epochs"]
        shown = ", ".join(f"{stage} {count}" for stage, count in epochs.items())
        same = "" if all(row["same_epochs"] for row in found.values()) else " (**differ**)"
        lines.append(f"| `{method}` | {worst} | {labels} | {shown}{same} |")
    ranks = " and ".join(next(iter(record["methods"].values())))
    lines.append(
        f"\nLargest relative difference between one process and {ranks} in {record['dtype']} over {record['backend']}, "
        f"torch {record['torch']}, {record['recorded'][:10]} (`bench/parity.py`): loss terms and gradients of an epoch of "
        "every stage, centers or mixtures after k-means and other passes, targets; then labels and numbers of epochs of a "
        "whole fit."
    )
    return "\n".join(lines)


def parity_summary() -> str:
    """The same in a sentence."""
    record = json.loads((RESULTS / "parity.json").read_text())
    rows = [row for found in record["methods"].values() for row in found.values()]
    worst = max(row[kind] or 0.0 for row in rows for kind in ("losses", "gradients", "centers", "targets"))
    same = sum(row["same_labels"] and row["same_epochs"] for row in rows)
    ranks = ", ".join(["1", *next(iter(record["methods"].values()))])
    return (
        f"Recorded for {len(record['methods'])} methods on {ranks} processes: losses, gradients, centers and targets agree "
        f"to {worst:.0e} in {record['dtype']}; labels and stopping epochs of {same} of {len(rows)} whole fits are equal\n"
        "([table](docs/several_processes.md))."
    )


def compiled() -> str:
    """What --compile gives, stage by stage."""
    record = json.loads((RESULTS / "compiled.json").read_text())
    lines = ["| data | method | stage | epoch | with `--compile` | ratio (rounds) | compiling |", "|---" * 7 + "|"]
    for row in record["rows"]:
        times = " | ".join(_milliseconds(row[key]) for key in ("plain_s", "compiled_s"))
        ratio = f"{row['ratio']:.2f} ({row['ratios'][0]:.2f}–{row['ratios'][-1]:.2f})"
        about = f"| {row['data']} | `{row['method']}` | {row['stage']} | {times} | {ratio} |"
        compiling = row["compilation_s"]
        lines.append(f"{about} {'–' if compiling is None else f'{compiling:.0f} s'} |")
    machine = record["machine"]
    lines.append(
        f"\n{machine['cpu']}, {record['threads']} thread{'s' * (record['threads'] > 1)}, torch {record['torch']}, load "
        f"{machine['load']:.0f} at the end, batches of 256, default widths, in turns on a busy machine "
        "(`bench/compiled.py`); compiling, from an empty cache, is that of all stages together. Not measured on a GPU."
    )
    return "\n".join(lines)


def _worst(rows: Iterable[dict], kind: str) -> str:
    values = [row[kind] for row in rows]
    return "–" if None in values else f"{max(values):.0e}" if max(values) else "0"


TABLES: dict[str, Callable[[], str]] = {
    "kernels": kernels,
    "dvae readings": readings,
    "quality": quality,
    "published": published,
    "compiled": compiled,
    "parity": parity,
    "parity summary": parity_summary,
}


def filled(text: str) -> str:
    """Return a page with every marked table replaced by the one from the results."""
    for name, make in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        if re.search(pattern, text, re.S):
            text = re.sub(pattern, lambda m, make=make: m[1] + make() + "\n" + m[2], text, count=1, flags=re.S)
    return text


def _ratio(row: dict | None) -> str:
    if row is None:
        return "–"
    if row["status"] == "ok":
        return f"{row['ratio']:.1f}×"
    return "–" if row["status"] == "unavailable" else row["status"]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms" if seconds < 0.01 else f"{1e3 * seconds:.0f} ms"


def _mebibytes(row: dict) -> str:
    peak = row.get("peak_bytes") or row.get("predicted_bytes")
    return "–" if peak is None else f"{peak / 2**20:.1f} MiB"


def main() -> None:
    """Rewrite or check the pages."""
    old = {page: page.read_text() for page in PAGES}
    new = {page: filled(text) for page, text in old.items()}
    if "--check" in sys.argv:
        sys.exit(new != old)
    for page, text in new.items():
        page.write_text(text)


if __name__ == "__main__":
    main()
