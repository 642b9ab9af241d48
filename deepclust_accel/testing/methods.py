"""The conformance kit: what every clustering method has to satisfy, ours and everybody's, checked from outside.

A plugin's test needs two lines::

    from deepclust_accel.testing.methods import check_method
    def test_it_conforms(): assert not [str(c) for c in check_method("idec", params={"epochs": 3}) if c.problem]

Whether a loss is the one of its paper is not the kit's business: that takes a test against an independent computation.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from deepclust_accel import fitting
from deepclust_accel.config import describe, from_mapping, to_mapping
from deepclust_accel.data import ArraySource, DataSpec
from deepclust_accel.engine.engine import check_plan
from deepclust_accel.engine.monitor import Watcher, logged
from deepclust_accel.errors import ArgumentError, DcaccelError, PluginError
from deepclust_accel.estimator import DeepClusterer
from deepclust_accel.methods import registry

__all__ = ["CONTRACT", "Check", "check_method"]

# What a plugin may import of the project: all else may change without notice.
CONTRACT = (
    *("ops", "nn", "cluster", "data", "config", "errors", "engine.stage", "engine.run"),
    *("methods.base", "methods.autoencoder", "methods.initialization"),
)
_OTHERS = ("TORCH", "PYTORCH", "KMP_")  # torch and scikit-learn set some when they are first used
K, FITTED, SHORT, FEW = 3, 240, 120, 12  # clusters; rows of the fit, of the short runs, of the odd ones


@dataclass(frozen=True)
class Check:
    """Outcome of one check: its name, what it asks for, and what was wrong, "" when nothing was.

    Where the method's own code raised, ``problem`` ends with the place and ``trace`` is the traceback.
    """

    name: str
    asks: str
    problem: str = ""
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.problem or 'ok'}"


def check_method(
    method: str | type,
    *,
    params: Mapping[str, Any] | None = None,
    minimum_ari: float | None = 0.4,
    device: str = "cpu",
) -> Iterator[Check]:
    """Check a method on the digits 0, 1 and 2 of scikit-learn (8 × 8 images in [0, 1]); yields each check as it is done.

    Args:
        method: registered name, or a class, which is then registered in this process.
        params: settings that make it quick; runs after the first cut settings in epochs to 2, in steps to 8.
        minimum_ari: adjusted Rand index that the fit has to exceed (chance is 0), or None where it is too short for any.
        device: as in :class:`deepclust_accel.DeepClusterer`.

    Nothing is raised: whatever goes wrong is the ``problem`` of its check, in one line. Without a usable class only the
    first check is yielded. Cost: one fit of 240 rows and about ten short ones. Call it from the main thread, since
    interruptions are signals.
    """
    kit = _Kit(method, dict(params or {}), minimum_ari, device)
    for name, function in _CHECKS.items():
        check = Check(name, function.__doc__.rstrip("."), *_problem(function, kit))
        yield check
        if check.problem and name == "found":
            return


@dataclass
class _Kit:
    method: str | type
    params: dict[str, Any]
    minimum_ari: float | None
    device: str
    model: DeepClusterer | None = field(default=None, init=False)

    @cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        digits = load_digits(n_class=K)
        return (digits.images[:300] / 16).astype(np.float32), digits.target[:300]

    @cached_property
    def cls(self) -> type:
        if isinstance(self.method, str):
            return registry.load(self.method)
        return registry.load(registry.register(self.method).info.name)

    @property
    def name(self) -> str:
        return self.method if isinstance(self.method, str) else self.method.info.name

    def settings(self, seed: int = 0, k: int = K, short: bool = True) -> fitting.Settings:
        params = to_mapping(from_mapping(self.cls.Params, self.params))
        if short:
            for end, most in (("epochs", 2), ("steps", 8)):
                params |= {key: min(value, most) for key, value in params.items() if key.endswith(end) and value}
        return fitting.Settings(self.name, k, from_mapping(self.cls.Params, params), seed=seed, device=self.device)

    def build(self) -> torch.nn.Module:
        return fitting.build(self.settings(), DataSpec(self.data[0].shape[1:], FITTED, unit_range=True))


class _Failure(Exception):
    """A check is not satisfied; the text says how."""


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise _Failure(otherwise)


def _problem(function: Callable[[_Kit], None], kit: _Kit) -> tuple[str, str]:
    """What was wrong, in a line, and the traceback; both empty when nothing was."""
    try:
        function(kit)
    except _Failure as failure:
        return " ".join(str(failure).split()), ""
    except (Exception, SystemExit) as cause:  # a stranger's code may raise anything
        said = f"{cause}" if isinstance(cause, DcaccelError) else f"{type(cause).__name__}: {cause}{_place(cause, kit)}"
        return " ".join(said.split()), "".join(traceback.format_exception(cause))
    return "", ""


def _place(cause: BaseException, kit: _Kit) -> str:
    """The last line of the method's own module that an error went through."""
    with suppress(Exception):
        file = inspect.getfile(kit.cls)
        own = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        return f" ({Path(file).name}:{own[-1].lineno}, in {own[-1].name})"
    return ""


@contextmanager
def _leaving_the_world_alone() -> Iterator[None]:
    """Fails when the block prints, or changes generators, defaults, environment or folder of the process."""

    def world() -> dict[str, Any]:
        return {
            "Python's random state": random.getstate(),
            "NumPy's random state": repr(np.random.get_state()),
            "torch's random state": torch.get_rng_state().tolist(),
            "torch's default dtype": torch.get_default_dtype(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's deterministic flag": torch.are_deterministic_algorithms_enabled(),
            "the environment": {key: value for key, value in os.environ.items() if not key.startswith(_OTHERS)},
            "the working directory": os.getcwd(),
        }

    before, out = world(), io.StringIO()
    with redirect_stdout(out):
        yield
    after = world()
    changed = [name for name in before if before[name] != after[name]]
    _require(not changed, f"expected the process as it was, got a change of {', '.join(changed)}")
    _require(not out.getvalue(), f"expected nothing on stdout, got {out.getvalue()[:60]!r}")


def _found(kit: _Kit) -> None:
    """It is installed under its name, can be imported, and has this contract's api_version."""
    _require(kit.cls.info.name == kit.name, f"expected info.name {kit.name!r}, got {kit.cls.info.name!r}")


def _imports(kit: _Kit) -> None:
    """Of deepclust_accel it imports what the contract names, and nothing else."""
    top = kit.cls.__module__.split(".")[0]
    if top in ("deepclust_accel", "__main__"):  # ours have rules of their own; a notebook has no file
        return
    spec = find_spec(top)
    roots = spec.submodule_search_locations or [spec.origin]
    files = [file for root in roots for file in (sorted(Path(root).rglob("*.py")) if Path(root).is_dir() else [root])]
    for file in files:
        wrong = sorted(name for name in _project_imports(Path(file)) if not _in_contract(name))
        _require(not wrong, f"expected imports of {', '.join(CONTRACT)}, got {', '.join(wrong)} in {Path(file).name}")


def _project_imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("deepclust_accel.") for name in names if name.split(".")[0] == "deepclust_accel"}


def _in_contract(name: str) -> bool:
    return any(name == allowed or name.startswith(allowed + ".") for allowed in CONTRACT)


def _card(kit: _Kit) -> None:
    """It names its paper, sums itself up, says its cost and what it assumes, and explains every setting."""
    info, text = kit.cls.info, (kit.cls.__doc__ or "").lower()
    _require(info.paper and info.summary, "expected a paper and a summary in info, got none")
    missing = [word for word in ("cost", "assum") if word not in text]
    _require(not missing, f"expected a docstring with its cost and what it assumes, got none with {missing}")
    bare = [row["name"] for row in describe(kit.cls.Params) if not row["help"]]
    _require(not bare, f"expected help for every setting, got none for {', '.join(bare)}")


def _settings(kit: _Kit) -> None:
    """Its defaults are valid and survive being written and read; an unknown setting is refused."""
    cls = kit.cls.Params
    cls().validate()
    _require(from_mapping(cls, to_mapping(cls())) == cls(), "expected the defaults back from a mapping, got others")
    try:
        from_mapping(cls, {"no_such_setting": 1})
    except ArgumentError:
        return
    raise _Failure("expected an unknown setting to be refused, got it accepted")


def _construction(kit: _Kit) -> None:
    """Building it twice gives equal networks, and leaves the process as it was."""
    with _leaving_the_world_alone():
        first, second = kit.build().state_dict(), kit.build().state_dict()
    _same_tensors(first, second, "expected the same state from the same seed")


def _plan(kit: _Kit) -> None:
    """Stages have different names, groups name existing parts, nothing trainable is outside the parts or never trained."""
    method = kit.build()
    stages, parts = list(method.plan()), method.parts()
    check_plan(method, stages, parts)
    trained = {name for stage in stages for group in getattr(stage, "groups", {}).values() for name in group.parts}
    left = sorted(set(parts) - trained)
    _require(not left, f"expected every part in a group of a stage, got {', '.join(left)} in none: it is never trained")


def _fit(kit: _Kit) -> None:
    """It fits, stays finite, finds clusters far better than chance, and leaves the process as it was."""
    X, y = kit.data
    model = DeepClusterer(kit.name, K, params=kit.params, device=kit.device, random_state=0)
    with _leaving_the_world_alone():
        model.fit(X[:FITTED])
    kit.model = model
    wrong = sorted(set(model.labels_.tolist()) - set(range(K)))
    _require(not wrong, f"expected clusters 0 to {K - 1}, got {wrong}")
    if kit.minimum_ari is not None:
        found = adjusted_rand_score(y[:FITTED], model.labels_)
        _require(found > kit.minimum_ari, f"expected an ARI above {kit.minimum_ari}, got {found:.2f}; more epochs?")


def _predict(kit: _Kit) -> None:
    """New rows get finite codes and probabilities that sum to 1, and each the same whoever stands beside it."""
    model, new = _fitted(kit), kit.data[0][FITTED:]
    codes, shares = model.transform(new), model.predict_proba(new)
    _require(codes.ndim == 2 and len(codes) == len(new), f"expected codes ({len(new)}, Z), got {codes.shape}")
    _require(np.isfinite(codes).all(), "expected finite codes, got some that are not")
    _require(shares.shape == (len(new), K), f"expected probabilities {(len(new), K)}, got {shares.shape}")
    sums = shares.sum(1)
    _require((shares >= 0).all() and np.allclose(sums, 1, atol=1e-5), f"expected rows to sum to 1, got {sums[:3]}")
    x, network = torch.from_numpy(new).to(model.model_.device), model.model_.network
    with torch.no_grad():
        alone, crowd = network.embed(x[5:6]).cpu(), network.embed(x).cpu()[5:6]
    close = torch.allclose(alone, crowd, rtol=1e-3, atol=1e-4 * float(crowd.abs().max()))
    _require(
        close, "expected a row alone to get the code it gets among others, got another; is a layer in training mode?"
    )
    centers = network.cluster_centers()
    _require(centers is None or centers.shape[0] == K, "expected K cluster centers or None")


def _save(kit: _Kit) -> None:
    """Saved and loaded it says the same, so the whole fitted state is in its parameters and buffers."""
    model, new = _fitted(kit), kit.data[0][FITTED:]
    _require_all_state(kit, model.model_.network)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        again = DeepClusterer.load(Path(folder) / "model", device=kit.device)
        same = np.array_equal(again.transform(new), model.transform(new))
        _require(same and np.array_equal(again.predict_proba(new), model.predict_proba(new)), "expected equal outputs")


def _require_all_state(kit: _Kit, fitted: torch.nn.Module) -> None:
    """Nothing that a fit changes is an attribute which a saved model does not have."""
    before = dict(kit.build().named_modules())
    for path, module in fitted.named_modules():
        for name, value in vars(module).items():
            where = f"{path}.{name}".lstrip(".")
            plain = isinstance(value, torch.Tensor)
            _require(not plain, f"expected state in parameters and buffers, got a tensor {where}; register_buffer it")
            fresh = vars(before[path]).get(name) if path in before else value
            number = isinstance(value, (int, float)) and name != "training"
            changed = number and value != fresh and fresh is not None
            _require(not changed, f"expected state in parameters and buffers, got a number {where} that a fit changed")


class _InterruptAfterAnEpoch(Watcher):
    def end_epoch(self, record: dict) -> None:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """The advice that an interrupted fit gives, straight to file 2, is for people."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _resume(kit: _Kit) -> None:
    """Interrupted after every epoch and resumed, it ends with the bits of a run in one go."""
    source, settings, result, sessions = ArraySource(kit.data[0][:SHORT]), kit.settings(seed=1), None, 0
    whole = fitting.fit(settings, source)
    with tempfile.TemporaryDirectory() as folder, _without_stderr():
        while result is None:
            sessions += 1
            _require(sessions <= len(whole.history) + 1, "expected every session to do an epoch, got one that did not")
            try:
                watcher = _InterruptAfterAnEpoch()
                result = fitting.fit(settings, source, checkpoint=Path(folder), resume=True, watcher=watcher)
            except KeyboardInterrupt:
                continue
    _same_tensors(whole.model.network.state_dict(), result.model.network.state_dict(), "expected the same state")
    timeless = [[(r["stage"], r["epoch"], logged(r)) for r in x.history] for x in (whole, result)]
    _require(timeless[0] == timeless[1], "expected the same history, got another")
    _require(whole.health == result.health, "expected the same health after every stage, got another")


def _edges(kit: _Kit) -> None:
    """One cluster, as many as rows, and equal rows give finite probabilities or one clear refusal."""
    X = kit.data[0]
    for case, rows, k in (
        ("K = 1", X[:FEW], 1),
        ("K = N", X[:FEW], FEW),
        ("equal rows", np.repeat(X[:1], FEW, 0), K),
    ):
        try:
            result = fitting.fit(kit.settings(k=k), ArraySource(rows)).model.probabilities(ArraySource(rows))
        except PluginError:
            raise
        except DcaccelError:
            continue
        except Exception as cause:
            raise _Failure(f"{case}: expected a DcaccelError at worst, got {type(cause).__name__}: {cause}") from cause
        _require(np.isfinite(result).all(), f"{case}: expected finite probabilities, got some that are not")


def _fitted(kit: _Kit) -> DeepClusterer:
    _require(kit.model is not None, "not checked, since it did not fit")
    return kit.model


def _same_tensors(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], expected: str) -> None:
    different = [n for n in first.keys() | second.keys() if n not in first or n not in second]
    different = different or [n for n in first if not torch.equal(first[n], second[n])]
    _require(not different, f"{expected}, got another {', '.join(sorted(different)[:3])}")


_CHECKS: dict[str, Callable[[_Kit], None]] = {
    "found": _found,
    "imports": _imports,
    "card": _card,
    "settings": _settings,
    "construction": _construction,
    "plan": _plan,
    "fit": _fit,
    "predict": _predict,
    "save": _save,
    "resume": _resume,
    "edges": _edges,
}
