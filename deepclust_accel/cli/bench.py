"""``dcaccel bench``: how fast the kernels are here, and how good the clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepclust_accel.cli.output import Debug, Json, emit, say, table
from deepclust_accel.errors import ArgumentError

app = typer.Typer(rich_markup_mode=None, help="Measure speed, memory and quality side by side with the alternatives.")


@app.callback()
def _group() -> None:
    """Measure speed, memory and quality side by side with the alternatives."""


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


@app.command("quality")
def quality(
    methods: Annotated[
        str, typer.Option("--methods", help="Comma-separated, besides the baselines [default: all installed].")
    ] = "",
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A method and settings, 'dvae beta=0' (repeatable).")
    ] = None,
    data: Annotated[str, typer.Option("--data", help="Names or paths with labels, comma-separated.")] = "digits",
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated.")] = "0,1,2",
    epochs_scale: Annotated[float, typer.Option("--epochs-scale", help="Multiply every number of epochs.")] = 1.0,
    precision: Annotated[
        str, typer.Option("--precision", help="32-true or bf16-mixed, where there are epochs.")
    ] = "32-true",
    workers: Annotated[int, typer.Option("--workers", help="Processes at a time, each on one thread.", min=1)] = 1,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds after which a cell fails.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; show what --out has.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder: cells.jsonl, results.json, quality.html.")] = Path(
        "runs/quality"
    ),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit methods × data × seeds, a process each, and compare their last epochs; recorded cells are not run again."""
    from deepclust_accel.bench import quality as bench

    if show and not (out / bench.RECORD).is_file():
        raise ArgumentError(
            f"--out {out}: expected a folder with {bench.RECORD}, got none; give that of a bench that ran"
        )
    if not show:
        chosen = bench.plan(_names(methods), variant or [], _names(data), _numbers(seeds), epochs_scale, precision)
        limits = {"workers": workers, "timeout_s": timeout, "retry_failed": retry_failed}
        bench.run(chosen, out, **limits, say=say)
    summary = bench.summarize(bench.read(out))
    bench.write(summary, out)
    emit("bench.quality", summary, as_json, bench.text(summary, table) + f"\n\n{out / 'quality.html'}")
    if any(row["failed"] for row in summary["rows"]):
        raise typer.Exit(1)


def _names(given: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))


def _numbers(given: str) -> list[int]:
    try:
        return [int(name) for name in _names(given)]
    except ValueError:
        raise ArgumentError(f"--seeds: expected whole numbers, got {given!r}; for example --seeds 0,1,2") from None
