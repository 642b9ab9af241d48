"""Rows from a ``.csv`` of numbers, by the rule by which a table of several files is read too."""

from pathlib import Path

import numpy as np

from ..errors import DataError
from .paths import brief, shown

__all__ = ["csv_header_lines", "read_csv"]


def read_csv(path: Path, what: str) -> tuple[np.ndarray, None]:
    """Rows (N, D) float64 of a file of numbers, and no labels; ``what`` names it in messages.

    Raises:
        DataError: An entry that is no number, lines of different lengths, other text than UTF-8; with the line to mend.
    """
    header_lines = csv_header_lines(path)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as lines:
            for _ in range(header_lines):
                next(lines)
            rows = np.loadtxt(lines, delimiter=",", comments=None, quotechar='"', dtype=np.float64, ndmin=2)
    except UnicodeDecodeError as cause:
        raise DataError(f"{what}: expected UTF-8 text, got other bytes; save it as UTF-8") from cause
    except ValueError as cause:
        # numpy counts rows without header and blank lines, so look up the line a text editor would show
        fault = _first_bad_line(path, header_lines) or f"expected a table of numbers, got {brief(cause)}; mend it"
        raise DataError(f"{what}: {fault}") from cause
    return rows, None


def csv_header_lines(path: Path, labels_allowed: bool = False) -> int:
    """Number of lines to skip; 0 if the first line that is not blank has numbers.

    Raises:
        DataError: No such line, names beside numbers, the column numbers of pandas, or (unless allowed) a name of labels.
    """
    what = shown(path)
    try:
        with path.open(encoding="utf-8-sig", newline=None) as lines:
            content = ((number, line) for number, line in enumerate(lines, 1))
            number, first = next(((n, line) for n, line in content if line.strip()), (0, ""))
            if not first:
                raise DataError(f"{what}: expected rows of numbers, got only blank lines; write it again")
            entries = _entries(first)
            numeric = [entry for entry in entries if _is_number(entry)]
            if len(numeric) == len(entries):
                _refuse_column_numbers(entries, number, what)
                return 0
            if not labels_allowed:
                _refuse_labels(entries, what)
            if numeric or not any(entries):
                bad = next(entry for entry in entries if not _is_number(entry))
                raise DataError(
                    f"{what}: expected numbers, or a header without any, got {bad!r} beside numbers "
                    f"in line {number}; fill or rename it"
                )
            if not any(line.strip() for _, line in content):
                raise DataError(f"{what}: expected rows of numbers, got only a header line; check how it was written")
            return number
    except UnicodeDecodeError as cause:
        raise DataError(f"{what}: expected UTF-8 text, got other bytes; save it as UTF-8") from cause


def _refuse_column_numbers(entries: list[str], line: int, what: str) -> None:
    """pandas writes 0, 1, 2 … for columns without names, which would pass for a row."""
    if len(entries) > 1 and entries == [str(i) for i in range(len(entries))]:
        raise DataError(
            f"{what}: expected a row or names, got the column numbers 0 to {len(entries) - 1} in line {line}; delete that "
            "line, or write the file with header=False"
        )


def _refuse_labels(names: list[str], what: str) -> None:
    """A column of labels in a file of rows would be clustered with them."""
    found = [name for name in names if name.strip().strip('"').lower() in ("label", "labels", "class", "target")]
    if found:
        raise DataError(
            f"{what}: expected values to cluster, got a column named {found[0]!r}; take it out and give labels with "
            "--labels, or rename it if it is none"
        )


def _first_bad_line(path: Path, header_lines: int) -> str | None:
    width = None
    with path.open(encoding="utf-8-sig", newline=None) as lines:
        for number, line in enumerate(lines, 1):
            if number <= header_lines or not line.strip("\r\n"):
                continue
            entries = _entries(line)
            for column, entry in enumerate(entries, 1):
                if not _is_number(entry):
                    return f"expected a number, got {entry[:40]!r} in line {number}, entry {column}; mend that line"
            width = width or len(entries)
            if len(entries) != width:
                return f"expected {width} entries as before, got {len(entries)} in line {number}; mend that line"
    return None


def _entries(line: str) -> list[str]:
    return [entry.strip().strip('"').strip() for entry in line.rstrip("\r\n").split(",")]


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return "_" not in entry  # Python reads 1_000 as a number, numpy does not
