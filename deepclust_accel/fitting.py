"""Fitting a method to data, and what comes out of it: a model that embeds and assigns rows.

The one path behind the estimator and the command line: the same settings (scaling and seed among them), rows and number
of threads give both the same result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.config import Params, from_mapping, resolve, to_mapping
from deepclust_accel.data import Batch, DataSource, DataSpec, Loader, Scaling, check_finite, fingerprint
from deepclust_accel.data.loader import shuffle_of
from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.engine.collectives import barrier
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import History, Watcher
from deepclust_accel.engine.pretraining import Networks, PretrainingCache, Taken
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import derive_seed, isolated
from deepclust_accel.errors import ArgumentError, DataError, TrainingError
from deepclust_accel.health import examine
from deepclust_accel.methods import registry
from deepclust_accel.methods.base import Method

__all__ = ["FitResult", "Model", "Settings", "build", "fit", "prepare", "resolve_params"]

BLOCK_ROWS = 512


@dataclass(frozen=True)
class Settings:
    """Everything a fit depends on besides the rows.

    Attributes:
        method: registered name.
        n_clusters: K, 1 ≤ K ≤ N.
        params: the method's settings.
        scaling: "none", "unit" or "standard"; fitted on the rows and saved with the model.
        seed: any integer ≥ 0.
        device, precision, compile: see :class:`deepclust_accel.engine.runtime.Runtime`.
    """

    method: str
    n_clusters: int
    params: Params
    scaling: str = "none"
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    compile: bool = False


@dataclass
class FitResult:
    """A fitted model with how it came about.

    Attributes:
        model: the fitted model.
        history: one record an epoch.
        seconds: per stage.
        health: before the first stage and after each, see :func:`deepclust_accel.health.examine`.
        reused: stage → what was taken instead of training it.
        compiled: part → whether it was compiled, see :attr:`deepclust_accel.engine.runtime.Runtime.compiled`.
    """

    model: Model
    history: list[dict]
    seconds: dict[str, float]
    health: list[dict]
    reused: dict[str, Taken]
    compiled: dict[str, str]


class Model:
    """A fitted method with the scaling of its data. Rows go in raw; the scaling is applied here.

    Args:
        settings: how it was fitted.
        spec: of the rows it was fitted to; other shapes are refused.
        network: the fitted method.
        scaling: fitted on the training rows.
        device: where rows are processed.
    """

    def __init__(self, settings: Settings, spec: DataSpec, network: Method, scaling: Scaling, device: torch.device):
        self.settings, self.spec, self.scaling, self.device = settings, spec, scaling, device
        self.network = network.to(device).eval()

    def apply(self, source: DataSource) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield codes (B, Z) and cluster probabilities (B, K) of all rows, in order, on the CPU.

        Blocks always have the same number of rows (the last is padded), so that what a row gets does not depend on the
        rows beside it: matrix products may round differently for other shapes.

        Raises:
            DataError: rows of another shape, or a value that is NaN, infinite or too large for float32.
            TrainingError: the model itself gives what is not finite.
        """
        if tuple(source.spec.shape) != tuple(self.spec.shape):
            raise DataError(
                f"data: expected rows of shape {tuple(self.spec.shape)}, as in training, got "
                f"{tuple(source.spec.shape)}; use the same columns"
            )
        loader = Loader(source, seed=0, scaling=self.scaling, device=self.device)
        with closing(loader.sequential(batch_size=BLOCK_ROWS)) as batches:
            for batch in batches:
                _refuse_not_finite(batch)
                yield self._apply(batch.x)

    @torch.inference_mode()
    def _apply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = len(x)
        if rows < BLOCK_ROWS:
            x = torch.cat([x, x.new_zeros(BLOCK_ROWS - rows, *x.shape[1:])])
        z, p = (values[:rows] for values in self.network.codes_and_shares(x))
        if not bool((z.sum() + p.sum()).isfinite()) and not bool(z.isfinite().all() and p.isfinite().all()):
            raise TrainingError(
                f"{self.settings.method}: expected finite codes and probabilities, got others, since its last steps broke "
                "the weights; lower the learning rate or check the scaling of the data"
            )
        return z.cpu(), p.cpu()

    def embed(self, source: DataSource) -> np.ndarray:
        """(N, Z) float32 codes."""
        return torch.cat([z for z, _ in self.apply(source)]).float().numpy()

    def probabilities(self, source: DataSource) -> np.ndarray:
        """(N, K) float32 cluster probabilities."""
        return torch.cat([p for _, p in self.apply(source)]).float().numpy()

    def predict(self, source: DataSource) -> np.ndarray:
        """(N,) int64 clusters, the most probable one of each row."""
        return torch.cat([p.argmax(1) for _, p in self.apply(source)]).numpy()


def _refuse_not_finite(batch: Batch) -> None:
    if bool(batch.x.sum().isfinite()):  # it is not where any value is not
        return
    finite = batch.x.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        row = int(batch.index[~finite][0])
        raise DataError(
            f"data: expected finite float32 values, got one that is NaN, infinite or too large in row {row}; "
            f"fill or drop such values"
        )


def resolve_params(
    method: str, layers: list[tuple[str, Mapping[str, Any]]], epochs_scale: float = 1.0
) -> tuple[Params, dict[str, str]]:
    """Build the method's settings from layers of ``(origin, mapping)``, later ones winning.

    ``epochs_scale`` multiplies every setting whose name ends in ``epochs`` (durations and intervals alike, at least 1 where
    it was not 0), so that a quick look keeps the proportions of a full run.

    Returns:
        Settings, and the origin of each value.
    """
    cls = registry.load(method).Params
    params, origin = resolve(cls, layers)
    if not 0 < epochs_scale <= 1e6:
        raise ArgumentError(
            f"epochs-scale: expected a number above 0, 1e6 at most, got {epochs_scale}; 1 changes nothing"
        )
    if epochs_scale != 1.0:
        changed = {
            f.name: max(1, round(getattr(params, f.name) * epochs_scale))
            for f in fields(params)
            if f.name.endswith("epochs") and getattr(params, f.name)
        }
        params = from_mapping(cls, to_mapping(params) | changed)
        origin.update({name: f"{origin[name]} × epochs-scale {epochs_scale:g}" for name in changed})
    return params, origin


def build(settings: Settings, spec: DataSpec) -> Method:
    """Construct the untrained method; its initial weights depend on the seed alone."""
    settings.params.validate()
    with isolated(derive_seed(settings.seed, "construct")):
        return registry.load(settings.method)(settings.params, settings.n_clusters, spec)


def prepare(settings: Settings, source: DataSource) -> tuple[DataSpec, Runtime, Scaling]:
    """Check settings and all rows: what the method may know of them, where it runs, and the scaling fitted to them.

    Raises:
        ArgumentError, DataError: settings or rows that cannot be used.
    """
    spec = _check_input(settings, source)
    runtime = Runtime(settings.device, settings.precision, settings.compile)
    _check_backend(runtime.device.type)
    scaling, unit_range = _fit_scaling(settings, source)
    return replace(spec, unit_range=unit_range), runtime, scaling


def fit(
    settings: Settings,
    source: DataSource,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    history_path: Path | None = None,
    watcher: Watcher | None = None,
    on_start: Any = None,
    kernels: dict[str, dict] | None = None,
    pretrained: Path | Networks | None = None,
) -> FitResult:
    """Fit a method to the rows of a source.

    Args:
        checkpoint: folder for snapshots, or None.
        resume: continue from the snapshot in it, if there is one.
        history_path: JSONL file that gets a record an epoch.
        watcher: told about progress.
        kernels: filled, also when the fit is interrupted: operator → what it ran on, why, and how often it was called.
        pretrained: folder in which results of pretraining are looked up and kept, with the same bits as without it; or the
            networks of another run, which take its place.
        on_start: called without arguments when all input has been checked, before anything is written.

    Raises:
        ArgumentError, DataError: settings or rows that cannot be used; nothing has been written.
    """
    spec, runtime, scaling = prepare(settings, source)
    method = build(settings, spec)
    if isinstance(pretrained, Networks):
        check_replaceable(settings, method)
    _check_processes(settings, method, spec, runtime)
    if on_start is not None and runtime.rank == 0:
        on_start()
    barrier()  # the folder is in order before others look for a snapshot
    identity = _identity(settings, spec, source, runtime) if checkpoint or pretrained else {}
    snapshots = Checkpoint(checkpoint, identity | {"pretrained": _origin(pretrained)}) if checkpoint else None
    history = History(history_path if runtime.rank == 0 else None)
    engine = Engine(
        runtime,
        seed=settings.seed,
        checkpoint=snapshots,
        history=history,
        watcher=watcher if runtime.rank == 0 else None,
        examine=examine,
        pretrained=_cache(pretrained, identity, runtime),
    )
    loader = Loader(source, seed=settings.seed, scaling=scaling, device=runtime.device)
    with ops.record() as used:
        try:
            seconds = engine.fit(method, loader, resume=resume)
        finally:
            if kernels is not None:
                kernels.update(used)
    model = Model(settings, spec, method, scaling, runtime.device)
    return FitResult(model, history.records, seconds, engine.health, engine.reused, runtime.compiled)


def _fit_scaling(settings: Settings, source: DataSource) -> tuple[Scaling, bool]:
    """The scaling fitted to the rows, which are checked, and whether scaled rows lie in [0, 1]."""
    low, high = check_finite(source)
    if settings.scaling == "none" and 0 < high - low < 2**-20 * max(abs(low), abs(high)):
        raise DataError(
            f"data: expected differences that float32 can hold, got values from {low!r} to {high!r}; use --scaling standard"
        )
    unit_range = settings.scaling == "unit" or settings.scaling == "none" and 0 <= low and high <= 1
    return Scaling.fit(settings.scaling, source), unit_range


def _check_processes(settings: Settings, method: Method, spec: DataSpec, runtime: Runtime) -> None:
    if runtime.world_size > 1 and not method.info.distributed:
        raise ArgumentError(
            f"processes: expected one for {settings.method}, got {runtime.world_size}; start it without torchrun"
        )
    for field in fields(settings.params) if runtime.world_size > 1 else ():
        only, chosen = field.metadata.get("ranks"), getattr(settings.params, field.name)
        if only is not None and chosen != only:
            raise ArgumentError(
                f"{field.name}: expected {only} on {runtime.world_size} processes, got {chosen}, which sees the rows of one "
                f"only; choose {only}, or start one process"
            )
    if spec.rows is not None and spec.rows < runtime.world_size:
        raise ArgumentError(
            f"processes: expected at most as many as rows ({spec.rows}), got {runtime.world_size}; start fewer"
        )


def check_replaceable(settings: Settings, method: Method) -> None:
    """Refuse another run's networks for a method that has no pretraining which they could replace."""
    if not any(getattr(stage, "recipe", None) for stage in method.plan()):
        raise ArgumentError(
            f"pretrained: expected a method with pretraining to replace, got {settings.method}; leave it out"
        )


def _origin(pretrained: Path | Networks | None) -> str | None:
    return pretrained.origin if isinstance(pretrained, Networks) else None  # a cache changes nothing


def _cache(
    given: Path | Networks | None, identity: Mapping[str, Any], runtime: Runtime
) -> PretrainingCache | Networks | None:
    """In place of a folder, a cache in it whose entries have the bits that training would have here."""
    if not isinstance(given, Path):
        return given
    facts = {
        key: identity[key]
        for key in ("data", "scaling", "seed", "precision", "world_size", "compile")
        if key in identity
    }
    machine = [str(runtime.device), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    return PretrainingCache(given, {**facts, "machine": machine})


def _check_backend(device: str) -> None:
    """Refuse a DCACCEL_BACKEND that does not exist, or native kernels where an operator has none."""
    try:
        operators = ops.report()
    except ValueError as cause:
        raise ArgumentError(str(cause)) from cause
    missing = {name: row[device] for name, row in operators.items() if row[device] != "available"}
    if missing and os.environ.get("DCACCEL_BACKEND") == "native":
        what = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise ArgumentError(f"DCACCEL_BACKEND: expected auto or reference here, got native ({what}); unset it")


def _check_input(settings: Settings, source: DataSource) -> DataSpec:
    """Refuse seeds, numbers of clusters and rows that cannot be used; return the source's spec."""
    if settings.seed < 0:
        raise ArgumentError(f"seed: expected a whole number of at least 0, got {settings.seed}; choose another")
    spec, k = source.spec, settings.n_clusters
    if spec.rows is not None and spec.rows < 2:
        raise DataError(f"data: expected at least 2 rows, got {spec.rows} (n_samples = {spec.rows}); give more rows")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ArgumentError(
            f"n_clusters: expected a whole number of at least 1, got {k!r}; choose K between 1 and {spec.rows}"
        )
    if spec.rows is not None and k > spec.rows:
        raise ArgumentError(f"n_clusters: expected at most as many as rows ({spec.rows}), got {k}; choose a smaller K")
    return spec


def _identity(settings: Settings, spec: DataSpec, source: DataSource, runtime: Runtime) -> dict[str, Any]:
    """Facts that must be the same when a run is resumed."""
    return {
        "method": settings.method,
        "plugin": plugin_of(settings.method),
        "params": to_mapping(settings.params),
        "n_clusters": int(settings.n_clusters),
        "seed": settings.seed,
        "scaling": settings.scaling,
        "precision": settings.precision,
        "world_size": runtime.world_size,
        "data": {
            "shape": list(spec.shape),
            "rows": spec.rows,
            "fingerprint": fingerprint(source),
            "shuffle": shuffle_of(source),  # equal rows in other files may be mixed otherwise
        },
        **({"compile": True} if settings.compile else {}),  # other bits; absent as in older snapshots
    }


def plugin_of(method: str) -> dict[str, str]:
    """Distribution and version that offer a method."""
    for entry in registry.entries():
        if entry.name == method:
            return {"distribution": entry.distribution, "version": entry.version}
    return {"distribution": "", "version": ""}


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("deepclust-accel", "torch", "numpy", "scikit-learn", "lightning-fabric", "safetensors")
    return {name: metadata.version(name) for name in names}
