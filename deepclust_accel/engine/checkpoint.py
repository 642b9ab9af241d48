"""Snapshots of a run at epoch boundaries: a safetensors file each, the last two of them, no pickle.

The name of a file says where the run stood and has a checksum of all its bytes. It gets that name when it is whole and on
disk, and only then an older one goes: a crash at any moment leaves a snapshot to go on from, and so does a damaged file.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deepclust_accel.atomic import checksum, replacing, sync_folder
from deepclust_accel.errors import OutputError, ResumeError, ResumeWarning

__all__ = ["Checkpoint", "Snapshot", "compare", "pack", "unpack"]

FORMAT = 3
_WRITING = "snapshot.unnamed"
_NAME = re.compile(r"snapshot-(\d+)-(\d+)-([0-9a-f]{32})\.safetensors")


@dataclass
class Snapshot:
    """Where a run stands: finished epochs of the current stage, tensors, history, seconds and health per stage."""

    stage: int = 0
    epoch: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    optimizers: dict[str, dict] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    health: list[dict] = field(default_factory=list)


class Checkpoint:
    """The snapshot folder of one run.

    Args:
        folder: created when the first snapshot is written.
        identity: JSON-able facts that must be equal on resume (method, parameters, seed, data …), but for what
            :func:`compare` says of ``world_size``.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))
        self._good: Path | None = None  # last written or read; of the others nobody knows

    def exists(self) -> bool:
        """Whether there is a snapshot, sound or damaged."""
        return bool(self._files())

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot and drop all but it and the one before. Cost: one write of the state, about 0.1 s for 30 MB.

        Raises:
            OutputError: the disk refuses; the snapshots there were are still there.
        """
        about = {key: value for key, value in vars(snapshot).items() if key != "tensors"}
        tensors = {k: v.detach().cpu().contiguous() for k, v in snapshot.tensors.items()}
        about |= {"format": FORMAT, "identity": self.identity}
        if not self.folder.is_dir():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as cause:
                raise OutputError(f"{self.folder}: expected a folder for snapshots, got {cause.strerror}") from cause
            sync_folder(self.folder.parent)
        with replacing(self.folder / _WRITING) as temporary:
            try:
                save_file(tensors, temporary, metadata={"about": json.dumps(about)})
            except SafetensorError as cause:
                raise OSError(str(cause)) from cause
            digits = checksum(temporary)
        path = self.folder / f"snapshot-{snapshot.stage:03d}-{snapshot.epoch:06d}-{digits}.safetensors"
        os.replace(self.folder / _WRITING, path)
        sync_folder(self.folder)
        for old in self._files() + self._unfinished():
            if old not in (path, self._good):
                with suppress(OSError):  # one too many does no harm
                    old.unlink()
        self._good = path

    def load(self) -> Snapshot:
        """Read the newest snapshot that is whole; ResumeWarning when that is not the newest, or of other processes.

        Raises:
            ResumeError: all are damaged, of another format, or of another identity (the differing keys are named).
        """
        damaged = []
        for path in self._files():
            try:
                about, tensors = _read(path)
                if (version := about.pop("format")) != FORMAT:
                    raise ResumeError(f"{path}: expected a snapshot of format {FORMAT}, got {version}; start a new run")
                saved, snapshot = about.pop("identity"), Snapshot(**about, tensors=tensors)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as cause:
                damaged.append(f"{path.name} ({cause})")
                continue
            compare(saved, self.identity)
            self._warn(path, damaged, saved)
            self._good = path
            return snapshot
        raise ResumeError(
            f"{self.folder}: expected a readable snapshot, got {'; '.join(damaged) or 'none'}; start a new run"
        )

    def _warn(self, path: Path, damaged: list[str], saved: Mapping[str, Any]) -> None:
        if damaged:
            warnings.warn(
                f"{self.folder}: expected a whole newest snapshot, got {'; '.join(damaged)}; going on from the one before, "
                f"{path.name}",
                ResumeWarning,
                stacklevel=3,
            )
        then, now = saved.get("world_size"), self.identity.get("world_size")
        if then != now:
            warnings.warn(
                f"{self.folder}: a snapshot of {then} processes goes on with {now}; not bit-equal, and with the same global "
                "batches only if batch_size times processes is as before",
                ResumeWarning,
                stacklevel=3,
            )

    def remove(self) -> None:
        """Delete the snapshots; called when the run has ended and its results are written."""
        for path in self._files() + self._unfinished():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """Newest first."""
        found = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("snapshot-*")]
        found = [(int(name[1]), int(name[2]), path) for name, path in found if name]
        return [path for *_, path in sorted(found, reverse=True)]

    def _unfinished(self) -> list[Path]:
        """What killed processes were writing; safetensors, too, writes into a file of another name first."""
        return [path for name in (_WRITING, f".{_WRITING}.*.tmp", ".tmp*") for path in self.folder.glob(name)]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if checksum(path) != _NAME.fullmatch(path.name)[3]:
        raise ValueError("its bytes do not have the checksum of its name")
    with safe_open(path, "pt") as file:  # tensors are maps of it, so that the values of all rows are not held twice
        return json.loads(file.metadata()["about"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings; ResumeError names every key that differs, with both values.

    Another number of processes, ``world_size``, is allowed, and with it settings ``…batch_size``, which are those of one
    process, that keep the batches of all processes together as large as they were.
    """
    saved = _in_as_many_processes(saved, now)
    differing = sorted(k for k in {*saved, *now} if saved.get(k) != now.get(k))
    if differing:
        what = "; ".join(f"{k}: {_differences(saved.get(k), now.get(k))}" for k in differing)
        raise ResumeError(
            f"resume: expected the run that was interrupted, got other settings ({what}); "
            f"repeat them as they were, or start anew with another --out"
        )


def _in_as_many_processes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """``saved`` with the number of processes of ``now``, and with those of its batch sizes that are scaled to it."""
    then, here = saved.get("world_size"), now.get("world_size")
    if then == here or not (isinstance(then, int) and isinstance(here, int)):
        return saved
    old, new = saved.get("params", {}), now.get("params", {})
    sizes = [name for name in old if name.endswith("batch_size") and isinstance(old[name], int)]
    scaled = {name: new[name] for name in sizes if new.get(name) == old[name] * then / here}
    return {**saved, "world_size": here, "params": {**old, **scaled}}


def _differences(old: object, new: object) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(
            f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)
        )
    return f"was {old!r}, is {new!r}"


def pack(
    method: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Split the state of networks and optimizers into tensors and JSON-able rest."""
    tensors = {f"method.{k}": v for k, v in method.state_dict().items()}
    rest: dict[str, dict] = {}
    for group, optimizer in optimizers.items():
        rest[group] = {}
        for number, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{group}.{number}.{key}"] = value
                else:
                    rest[group][f"{number}.{key}"] = value
    return tensors, rest


def unpack(snapshot: Snapshot, method: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Put a snapshot's state back; ResumeError when names or shapes do not fit the method."""
    state = {k.removeprefix("method."): v for k, v in snapshot.tensors.items() if k.startswith("method.")}
    try:
        method.load_state_dict(state)
        for group, optimizer in optimizers.items():
            prefix = f"optimizer.{group}."
            kept = {k.removeprefix(prefix): v for k, v in snapshot.tensors.items() if k.startswith(prefix)}
            entries: dict[int, dict] = {}
            for name, value in {**kept, **snapshot.optimizers.get(group, {})}.items():
                number, key = name.split(".", 1)
                entries.setdefault(int(number), {})[key] = value
            optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise ResumeError(f"snapshot: expected the state of this method, got {cause}; start a new run") from cause
