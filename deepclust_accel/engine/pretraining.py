"""Pretraining that need not be done again: kept under a hash of all it depends on, or taken from another run's networks."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from deepclust_accel.atomic import checksum, write_atomic
from deepclust_accel.engine.stage import Stage, Train
from deepclust_accel.errors import ArgumentError, FallbackWarning, OutputError

__all__ = ["Networks", "Pretrained", "PretrainingCache", "Taken"]


@dataclass(frozen=True)
class Taken:
    """What a stage would have left: tensors of its parts (``part.name``), its history, and what it had cost."""

    tensors: dict[str, Tensor]
    origin: str
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    process_seconds: float = 0.0


class Pretrained(Protocol):
    """Where results of stages that have a recipe come from, and where they go."""

    def key(self, stage: Train, index: int, parts: Mapping[str, nn.Module]) -> str:
        """Name of what the stage would make of its parts as they are now."""

    def take(self, key: str, stage: Train, parts: Mapping[str, nn.Module]) -> Taken | None:
        """That result, or None: train."""

    def keep(self, key: str, result: Taken) -> None:
        """Keep a result for the next time."""


class PretrainingCache:
    """A folder of results, one file each, named by a hash of recipe, data, seed and the weights before the stage, and by a
    checksum of its bytes.

    Args:
        folder: created when first written. Whole files are never removed; delete the folder to be rid of them.
        facts: JSON-able; whatever the bits of a result depend on besides stage and weights.
    """

    def __init__(self, folder: Path, facts: Mapping[str, object]):
        self._folder, self._facts = Path(folder), dict(facts)

    def key(self, stage: Train, index: int, parts: Mapping[str, nn.Module]) -> str:
        """Cost: one hash of the weights, about 0.1 s for 30 MB."""
        facts = {**self._facts, "stage": [stage.name, index], "recipe": dict(stage.recipe or {})}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in _tensors(stage, parts).items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def take(self, key: str, stage: Train, parts: Mapping[str, nn.Module]) -> Taken | None:
        """The kept result; a damaged file counts as none, with a FallbackWarning, and is written again."""
        shapes = {name: tensor.shape for name, tensor in _tensors(stage, parts).items()}
        for path in self._files(key):
            try:
                return _read(path, shapes)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as cause:
                warnings.warn(
                    f"{path}: expected what was kept of {stage.name!r}, got a damaged file ({cause}); training it again",
                    FallbackWarning,
                    stacklevel=2,
                )
        return None

    def keep(self, key: str, result: Taken) -> None:
        """Write the result, whole or not at all; OutputError when the folder cannot be written."""
        about = {name: getattr(result, name) for name in ("history", "seconds", "process_seconds")}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in result.tensors.items()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise OutputError(
                f"{self._folder}: expected a folder for pretrained networks, got {cause.strerror}; fit without the cache"
            ) from cause
        data, damaged = save(tensors, metadata={"about": json.dumps(about)}), self._files(key)
        digits = hashlib.sha256(data).hexdigest()[:32]
        path = self._folder / f"pretrained-{key[:32]}-{digits}.safetensors"
        write_atomic(path, data)
        for old in damaged:
            if old != path:
                with suppress(OSError):  # one too many does no harm
                    old.unlink()

    def _files(self, key: str) -> list[Path]:
        return sorted(self._folder.glob(f"pretrained-{key[:32]}-*.safetensors"))


def _read(path: Path, shapes: Mapping[str, torch.Size]) -> Taken:
    """A kept result; ValueError and others where it is not whole, or has other shapes."""
    if checksum(path) != path.stem.rpartition("-")[2]:
        raise ValueError("its bytes do not have the checksum of its name")
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if {name: tensor.shape for name, tensor in tensors.items()} != dict(shapes):
        raise ValueError("it has other tensors")
    return Taken(tensors, str(path), about["history"], about["seconds"], about["process_seconds"])


class Networks:
    """The parts of another, fitted method, by the same names; they replace the pretraining whatever made them.

    Args:
        parts: its parts. plan: its stages; what the recipe of one calls ``function`` (activations, layout of images)
            must be as here, since equal tensors do not say it. origin: what to call it.
    """

    def __init__(self, parts: Mapping[str, nn.Module], plan: Sequence[Stage], origin: str):
        self._parts, self.origin = parts, origin
        recipes = [getattr(stage, "recipe", None) or {} for stage in plan]
        self._function = next((recipe["function"] for recipe in recipes if "function" in recipe), {})

    def key(self, stage: Train, index: int, parts: Mapping[str, nn.Module]) -> str:
        """Nothing: there is only one."""
        return ""

    def take(self, key: str, stage: Train, parts: Mapping[str, nn.Module]) -> Taken:
        """The tensors of the stage's parts; ArgumentError where one is missing, or its shape or function is another."""
        wanted = _tensors(stage, parts)
        state = {f"{part}.{n}": t for part, module in self._parts.items() for n, t in module.state_dict().items()}
        for name, tensor in wanted.items():
            found = state.get(name)
            if found is None or found.shape != tensor.shape:
                got = "none" if found is None else tuple(found.shape)
                raise ArgumentError(
                    f"{self.origin}: expected {name} of shape {tuple(tensor.shape)}, got {got}; give a run with the "
                    f"same networks"
                )
        here = (stage.recipe or {}).get("function", {})
        for fact, ours in here.items():
            if fact in self._function and ours != self._function[fact]:
                raise ArgumentError(
                    f"{self.origin}: expected networks with {fact}={ours}, got {self._function[fact]}; give a run "
                    f"with the same, or choose that"
                )
        return Taken({name: state[name] for name in wanted}, self.origin)

    def keep(self, key: str, result: Taken) -> None:
        """Nothing is kept."""


def _tensors(stage: Train, parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers of the parts that a stage trains, by ``part.name``, in a fixed order."""
    names = sorted(name for group in stage.groups.values() for name in group.parts)
    return {f"{part}.{key}": tensor for part in names for key, tensor in parts[part].state_dict().items()}


def result_of(
    stage: Train, parts: Mapping[str, nn.Module], history: list[dict], seconds: float, process_seconds: float
) -> Taken:
    """What a stage has left, to be kept."""
    return Taken(_tensors(stage, parts), "", history, seconds, process_seconds)


@torch.no_grad()
def put(taken: Taken, stage: Train, parts: Mapping[str, nn.Module]) -> None:
    """Give the parts of a stage what was taken, in place."""
    for name, tensor in _tensors(stage, parts).items():
        tensor.copy_(taken.tensors[name])
