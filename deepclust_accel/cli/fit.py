"""``dcaccel fit``: train a method on data and leave a run folder."""

from __future__ import annotations

import shlex
import sys
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from deepclust_accel.cli.forecast import show_forecast
from deepclust_accel.cli.output import Debug, Json, Quiet, emit, say
from deepclust_accel.cli.processes import relaunch
from deepclust_accel.config import from_mapping
from deepclust_accel.errors import ArgumentError, nearest


@dataclass
class _Options:
    """What a config file may say beside [params]; the values here are never used."""

    n_clusters: int = 0
    seed: int = 0
    scaling: str = ""
    device: str = ""
    precision: str = ""
    compile: bool = False
    epochs_scale: float = 1.0


_CONFIG_KEYS = tuple(f.name for f in fields(_Options))

MethodName = Annotated[str, typer.Argument(help="Method to run; see 'dcaccel methods list'.")]
Rows = Annotated[
    str,
    typer.Argument(
        help="Rows: a .npy, .npz, .csv, .parquet, .arrow, .h5 or .h5ad file, a folder of such files or of "
        "images, or the name of a data set such as digits. FILE::PART is a dataset of .h5 or columns (a,b or "
        "-id) of a table."
    ),
]
Clusters = Annotated[int | None, typer.Option("--n-clusters", "-k", help="K, the number of clusters.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="name=value; a setting of the method (repeatable).")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file: n_clusters, seed, scaling …, [params].")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random number [default: 0].")]
Scale = Annotated[
    str | None,
    typer.Option("--scaling", help="none, unit or standard [default: what suits a named data set, none for files]."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Labels, used for the final scores only: a .npy or .csv file, y of an .npz or of a folder of them, or "
        "a column, x.parquet::label.",
    ),
]
EpochsScale = Annotated[float | None, typer.Option("--epochs-scale", help="Multiply every number of epochs.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")]
Precision = Annotated[str | None, typer.Option("--precision", help="32-true or bf16-mixed.")]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Training steps call networks through torch.compile; on CPUs it saves nothing (docs/faq.md) [default: no].",
    ),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        help="Folder of a run whose networks replace pretraining; or cache: take those of an equal pretraining done before, "
        "and keep these.",
    ),
]
Processes = Annotated[
    int, typer.Option("--processes", help="Train in this many processes of this machine; of several, use torchrun.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files into OUT/tensorboard too (extra: tensorboard).")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing; say which steps, time and memory the fit would take.")
]


def fit(
    method: MethodName,
    data: Rows,
    n_clusters: Clusters = None,
    out: Out = None,
    set_: Set = None,
    config: Config = None,
    seed: Seed = None,
    scaling: Scale = None,
    labels: Labels = None,
    epochs_scale: EpochsScale = None,
    device: Device = None,
    precision: Precision = None,
    compile: Compile = None,
    pretrained: Pretrained = None,
    processes: Processes = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    tensorboard: Tensorboard = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train METHOD on DATA; leave a model, labels, scores (when labels are known) and a report in --out."""
    if processes != 1:
        relaunch(processes)
    file = _read_config(config)
    flags = dict(zip(_CONFIG_KEYS, (n_clusters, seed, scaling, device, precision, compile, epochs_scale), strict=True))
    values, origins = _merged(file, flags)
    _require(values, out, dry_run)
    layers = [("config file", file.get("params", {})), ("--set", assignments(set_ or []))]

    from deepclust_accel.workflow import FitRequest, forecast_fit, run_fit

    request = FitRequest(
        method=method,
        data=data,
        layers=layers,
        out=out,
        labels=labels,
        pretrained=pretrained,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
        origins=origins,
        command=shlex.join(["dcaccel", *sys.argv[1:]]),
        **values,
    )
    if dry_run:
        show_forecast(forecast_fit(request), as_json)
        return
    record = run_fit(request, quiet=quiet, say=say)
    if record:  # else another rank speaks
        _show(record, out, as_json)


_SHOWN = ("method", "n_clusters", "clusters_used", "seed", "scores", "label_free", "seconds", "kernels", "report")


def _show(record: dict[str, Any], out: Path, as_json: bool) -> None:
    content = {key: record.get(key) for key in _SHOWN} | {"out": str(out)}
    emit("fit", content, as_json, _summary(record, out))


def _require(values: dict[str, Any], out: Path | None, dry_run: bool) -> None:
    if "n_clusters" not in values:
        raise ArgumentError(
            "-k: expected the number of clusters, got none; add -k 10, or n_clusters to the config file"
        )
    if out is None and not dry_run:
        raise ArgumentError("--out: expected a folder for the results, got none; add --out runs/NAME")


def _merged(file: dict[str, Any], flags: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Options that were given, the command line before the config file, and where each value is from."""
    given = {key: value for key, value in flags.items() if value is not None}
    origins = {
        key: "command line" if key in given else "config file" if key in file else "default" for key in _CONFIG_KEYS
    }
    return {key: file[key] for key in _CONFIG_KEYS if key in file} | given, origins


def _summary(record: dict[str, Any], out: Path) -> str:
    lines = []
    if record.get("scores"):
        lines.append("  ".join(f"{name} {value:.4f}" for name, value in record["scores"].items()))
    elif record.get("label_free"):
        lines.append(
            "no labels given; "
            + "  ".join(
                f"{name} {value:.4g}" for name, value in record["label_free"].items() if isinstance(value, float)
            )
        )
    if record["clusters_used"] < record["n_clusters"]:
        lines.append(
            f"only {record['clusters_used']} of {record['n_clusters']} clusters have rows; train longer, try --scaling "
            "standard or a smaller -k"
        )
    lines.append(f"{sum(record['seconds'].values()):.1f} s  results in {out}")
    if record.get("report"):
        lines.append(f"report {record['report']}")
    return "\n".join(lines)


def assignments(pairs: list[str]) -> dict[str, str]:
    """The settings in ``name=value`` texts; ArgumentError for any other text."""
    mapping = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise ArgumentError(f"--set: expected name=value, got {pair!r}; for example --set epochs=50")
        mapping[name.strip()] = value.strip()
    return mapping


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise ArgumentError(
            f"--config {path}: expected a TOML file, got {reason}; check the path and its syntax"
        ) from cause
    for key in content:
        if key not in (*_CONFIG_KEYS, "params"):
            raise ArgumentError(
                f"--config {path}: expected {', '.join(_CONFIG_KEYS)} or [params], got {key!r}"
                f"{nearest(key, [*_CONFIG_KEYS, 'params'])}"
            )
    if not isinstance(content.get("params", {}), dict):
        raise ArgumentError(
            f"--config {path}: expected a table [params], got {content['params']!r}; write [params] on its own line"
        )
    values = {key: value for key, value in content.items() if key != "params"}
    try:
        checked = from_mapping(_Options, values)
    except ArgumentError as cause:
        raise ArgumentError(f"--config {path}: {cause}") from cause
    return content | {key: getattr(checked, key) for key in values}
