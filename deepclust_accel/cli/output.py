"""What every command shares: its common options, and where text and JSON go."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from deepclust_accel.errors import OutputError

__all__ = ["Debug", "Json", "Quiet", "emit", "options", "say", "table"]


@dataclass
class _Options:
    debug: bool = False


options = _Options()


def _remember_debug(value: bool) -> bool:
    options.debug = options.debug or value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_remember_debug)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def say(line: str) -> None:
    """Print a line for people, on stderr; of several processes only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)


def emit(schema: str, content: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print the result on stdout: the text, or the content as one JSON object with ``schema`` and ``version``.

    Raises:
        OutputError: stdout is a file on a disk that is full.
    """
    if as_json:
        text = json.dumps({"schema": f"deepclust_accel.{schema}", "version": 1, **content}, default=str)
    try:
        if text:
            print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as cause:
        sys.stdout = None  # what is in its buffer would be tried again when Python ends
        raise OutputError(f"stdout: expected to print the result, got {cause.strerror}; send it elsewhere") from cause


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows aligned in columns."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
