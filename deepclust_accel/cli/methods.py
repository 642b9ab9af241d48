"""``dcaccel methods``: what can be run, and with which settings."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Annotated

import typer

from deepclust_accel.cli.output import Debug, Json, emit, table
from deepclust_accel.config import describe
from deepclust_accel.methods import registry

app = typer.Typer(rich_markup_mode=None, help="List methods, or show one with its settings.")


@app.command("list")
def list_(as_json: Json = False, debug: Debug = False) -> None:
    """List every installed method; one that cannot be used is a row with its reason."""
    # Importing is the only way to know whether a stranger's works; ours are known to, and listing them stays quick.
    rows = [e if e.distribution == registry.BUILT_IN else registry.examine(e) for e in registry.entries()]
    text = table(
        ("method", "from", "version", "state"),
        [(e.name, e.distribution, e.version, e.problem or "installed") for e in rows],
    )
    emit("methods", {"methods": [asdict(e) for e in rows]}, as_json, text)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a method.")], as_json: Json = False, debug: Debug = False
) -> None:
    """Show a method: paper, what it assumes, and its settings with defaults and units."""
    cls = registry.load(name)
    rows, card = describe(cls.Params), inspect.cleandoc(cls.__doc__ or "")
    settings = table(
        ("setting", "default", "type", "unit", "what it is"),
        [(r["name"], _short(r["default"]), r["type"], r["unit"] or "", r["help"] or "") for r in rows],
    )
    processes = "any number" if cls.info.distributed else "one"
    emit(
        "method",
        {
            "name": name,
            "paper": cls.info.paper,
            "summary": cls.info.summary,
            "distributed": cls.info.distributed,
            "card": card,
            "params": rows,
        },
        as_json,
        f"{name}: {cls.info.summary}\n{cls.info.paper}\nprocesses: {processes}\n\n{card}\n\n{settings}",
    )


def _short(value: object) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
