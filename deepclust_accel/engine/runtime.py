"""Device, precision and processes, by Lightning Fabric. The only module that imports it."""

from __future__ import annotations

import logging
import os
import warnings
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from deepclust_accel.engine.stage import Group
from deepclust_accel.errors import ArgumentError

__all__ = ["PRECISIONS", "Runtime"]

PRECISIONS = ("32-true", "bf16-mixed")
_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class Runtime:
    """Where and in which precision the networks run.

    Args:
        device: "auto" (an accelerator when there is one), "cpu", "cuda" or "cuda:1".
        precision: "32-true" or "bf16-mixed" (networks only; the losses of ``ops`` ask for float32).

    Raises:
        ArgumentError: unknown precision, unknown device, one that this machine does not have, or several processes.
    """

    def __init__(self, device: str = "auto", precision: str = "32-true"):
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        if os.environ.get("WORLD_SIZE", "1") != "1":  # each would be rank 0 and overwrite the others' files
            raise ArgumentError(
                f"WORLD_SIZE: expected 1, got {os.environ['WORLD_SIZE']!r}; "
                f"several processes are not supported yet, start without torchrun"
            )
        accelerator, devices = _accelerator(device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fabric advises on hardware that was not asked for
            logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
            from lightning_fabric import Fabric

            self._fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
            self._fabric.launch()

    @property
    def rank(self) -> int:
        """This process's number, 0 … world_size - 1."""
        return self._fabric.global_rank

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return self._fabric.world_size

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._fabric.device

    def networks(self, parts: dict[str, nn.Module]) -> SimpleNamespace:
        """Wrap each part for training (precision, and synchronisation of gradients over ranks)."""
        return SimpleNamespace(**{name: self._fabric.setup_module(part) for name, part in parts.items()})

    def optimizer(self, group: Group, parts: dict[str, nn.Module]) -> torch.optim.Optimizer:
        """Return a fresh optimizer over the parameters of the group's parts."""
        if group.optimizer not in _OPTIMIZERS:
            raise ArgumentError(f"optimizer: expected one of {', '.join(_OPTIMIZERS)}, got {group.optimizer!r}")
        parameters = [p for name in group.parts for p in parts[name].parameters() if p.requires_grad]
        # One pass over parameters and state instead of ten: a tenth of the time of a step on the CPU.
        options = {"fused": True, **group.options}
        return _OPTIMIZERS[group.optimizer](parameters, lr=group.learning_rate, **options)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate in the chosen precision."""
        self._fabric.backward(loss)


def _accelerator(device: str) -> tuple[str, int | list[int]]:
    if device == "auto":
        return ("cuda" if torch.cuda.is_available() else "cpu"), 1
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device: expected auto, cpu, cuda or cuda:<number>, got {device!r}") from None
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise ArgumentError(
                f"device: expected one that this machine has, got {device!r} with {count} CUDA devices; "
                f"use --device cpu, or run 'dcaccel doctor'"
            )
        return "cuda", [wanted.index or 0]
    if wanted.type != "cpu":
        raise ArgumentError(f"device: expected auto, cpu, cuda or cuda:<number>, got {device!r}")
    return "cpu", 1
