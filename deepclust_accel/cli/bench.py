"""``dcaccel bench``: how fast the kernels are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepclust_accel.cli.output import Debug, Json, emit, say

app = typer.Typer(rich_markup_mode=None, help="Measure speed and memory side by side with the alternatives.")


@app.callback()
def _group() -> None:
    """Measure speed and memory side by side with the alternatives."""


@app.command("kernels")
def kernels(
    rows: Annotated[
        str | None, typer.Option("--rows", help="Sizes N, comma-separated [default: each operator's own].")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Timed rounds per size and provider.")] = 15,
    providers: Annotated[
        str, typer.Option("--providers", help="Comma-separated [default: all that are installed].")
    ] = "",
    operators: Annotated[str, typer.Option("--operators", help="Comma-separated [default: all].")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for results.json and time.png.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time every operator against eager PyTorch, torch.compile and KeOps, interleaved, after checking its results."""
    from deepclust_accel.bench import kernels as bench

    if out is not None:
        bench.prepare(out)  # before minutes of measuring
    results = bench.measure(
        None if rows is None else bench.parse_rows(rows),
        operators=bench.parse_operators(operators),
        repeats=repeats,
        providers=bench.parse_providers(providers),
        say=say,
    )
    if out is not None:
        bench.write(results, out)
    emit("bench.kernels", results, as_json, bench.text(results))
