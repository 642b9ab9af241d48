"""``dcaccel report``: draw the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepclust_accel.cli.output import Debug, Json, emit


def report(
    run: Annotated[Path, typer.Argument(help="Folder that 'dcaccel fit --out' left.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Where the rows lie now [default: where they lay].")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write RUN/report.html anew, for example after an update."""
    from deepclust_accel.workflow import redraw

    page = redraw(run, data)
    emit("report", {"report": str(page)}, as_json, str(page))
