"""``dcaccel plugin``: start a method of one's own, and check one that is installed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deepclust_accel.cli.fit import assignments
from deepclust_accel.cli.output import Debug, Json, emit

app = typer.Typer(rich_markup_mode=None, help="Write a new method, or check an installed one.")


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the method: small letters, digits, hyphens.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; the name by default. It must not exist.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a complete plugin that can be installed, passes its tests, and waits to be changed."""
    from deepclust_accel.scaffold import write_plugin

    folder = out or Path(name)
    files = [str(file) for file in write_plugin(name, folder)]
    steps = (
        f"pip install -e {folder}\n  dcaccel plugin check {name}\n  dcaccel fit {name} digits -k 10 --out runs/{name}"
    )
    emit("plugin_new", {"name": name, "files": files}, as_json, "\n".join([*files, f"\nnext:\n  {steps}"]))


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Name of an installed method.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Setting for the check, name=value.")] = None,
    epochs_scale: Annotated[float, typer.Option(help="Multiplies every number of epochs.")] = 1.0,
    minimum_ari: Annotated[float, typer.Option(help="Adjusted Rand index its fit has to exceed; chance is 0.")] = 0.4,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the conformance kit on a method, a line a check; exit 1 if one fails."""
    from deepclust_accel.config import to_mapping
    from deepclust_accel.errors import PluginError
    from deepclust_accel.fitting import resolve_params
    from deepclust_accel.testing.methods import check_method

    params = {}
    try:
        params = to_mapping(resolve_params(name, [("--set", assignments(set_ or []))], epochs_scale)[0])
    except PluginError:
        pass  # the first check says so
    done = []
    for found in check_method(name, params=params, minimum_ari=minimum_ari):
        done.append(found)
        if not as_json:
            print(f"{'FAIL' if found.problem else 'ok':4}  {found.name:12}  {found.problem or found.asks}", flush=True)
        if debug and found.trace:
            print(found.trace, file=sys.stderr)
    passed = not any(found.problem for found in done)
    emit("plugin_check", {"name": name, "passed": passed, "checks": [asdict(c) for c in done]}, as_json, "")
    if not passed:
        raise typer.Exit(1)
