"""Device, precision and processes, by Lightning Fabric. The only module that imports it."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from contextlib import AbstractContextManager
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepclust_accel.engine import collectives
from deepclust_accel.engine.compiled import Compiled
from deepclust_accel.engine.stage import Group
from deepclust_accel.errors import ArgumentError

__all__ = ["PRECISIONS", "Runtime", "device_of"]

PRECISIONS = ("32-true", "bf16-mixed")
_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class Runtime:
    """Where and in which precision the networks run.

    Args:
        device: "auto" (an accelerator when there is one), "cpu", "cuda" or "cuda:1".
        precision: "32-true" or "bf16-mixed" (networks only; the losses of ``ops`` ask for float32), in training steps and
            in what is refreshed between them; passes, and all that a fitted model does, are float32.
        compile: training steps call the networks through torch.compile; see :class:`compiled.Compiled`.

    Raises:
        ArgumentError: unknown precision, unknown device, or one that this machine does not have.

    Under torchrun every process makes one: it joins the process group (nccl on CUDA, gloo elsewhere) and takes the device
    of its local rank. Gradients are averaged by the engine; :func:`collectives.average_gradients` says why not by DDP.
    """

    def __init__(self, device: str = "auto", precision: str = "32-true", compile: bool = False):
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        kind, self._precision = _join(device_of(device)), precision
        self._compile, self._compiled = compile, {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fabric advises on hardware that was not asked for
            logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
            from lightning_fabric import Fabric
            from lightning_fabric.strategies import SingleDeviceStrategy

            self._fabric = Fabric(
                accelerator=kind.type, devices=1, strategy=SingleDeviceStrategy(kind), precision=precision
            )
            self._fabric.launch()

    @property
    def rank(self) -> int:
        """This process's number, 0 … world_size - 1."""
        return collectives.rank()

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return collectives.world_size()

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._fabric.device

    def networks(self, parts: dict[str, nn.Module]) -> SimpleNamespace:
        """Return the parts, on the device already, as a step calls them: in the chosen precision."""
        if self._precision != "32-true":  # Fabric's wrapper would change nothing, and takes as long as a small layer
            parts = {name: self._fabric.setup_module(part) for name, part in parts.items()}
        if self._compile:
            parts = self._compiled = {name: Compiled(name, part) for name, part in parts.items()}
        return SimpleNamespace(**parts)

    @property
    def compiled(self) -> dict[str, str]:
        """Part → "compiled", "not called" in a training step, or why not; empty unless ``compile`` was asked for."""
        return {name: part.state for name, part in self._compiled.items()}

    def optimizer(self, group: Group, parts: dict[str, nn.Module]) -> torch.optim.Optimizer:
        """Return a fresh optimizer over the parameters of the group's parts."""
        if group.optimizer not in _OPTIMIZERS:
            raise ArgumentError(f"optimizer: expected one of {', '.join(_OPTIMIZERS)}, got {group.optimizer!r}")
        parameters = [p for name in group.parts for p in parts[name].parameters() if p.requires_grad]
        # One pass over parameters and state instead of ten: a tenth of the time of a step on the CPU.
        options = {"fused": True, **group.options}
        return _OPTIMIZERS[group.optimizer](parameters, lr=group.learning_rate, **options)

    def autocast(self) -> AbstractContextManager:
        """A block in which networks run in the chosen precision."""
        return self._fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate in the chosen precision."""
        self._fabric.backward(loss)


def device_of(wanted: str) -> torch.device:
    """The device of this process: of several on a machine, each takes the CUDA device of its local rank.

    Raises:
        ArgumentError: unknown, or one that this machine does not have.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device: expected auto, cpu, cuda or cuda:<number>, got {wanted!r}") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = local if device.index is None else device.index
        if number >= count:
            raise ArgumentError(
                f"device: expected one that this machine has, got {wanted!r} with {count} CUDA devices; "
                f"use --device cpu, or run 'dcaccel doctor'"
            )
        return torch.device("cuda", number)
    if device.type != "cpu":
        raise ArgumentError(f"device: expected auto, cpu, cuda or cuda:<number>, got {wanted!r}")
    return device


def _join(device: torch.device) -> torch.device:
    """Join the processes that torchrun has started, if it has."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        # Its default arguments take hold of the group of their time; imported later (dynamo does it) they would keep
        # gloo's threads alive beyond destroy_process_group and the interpreter, which then aborts now and then.
        import torch.distributed.nn.functional  # noqa: F401

        if device.type == "cuda":
            torch.cuda.set_device(device)
        store, rank, world_size = next(dist.rendezvous("env://"))
        # Workers that torchrun starts again find the store of those before, with addresses where nobody answers.
        store = dist.PrefixStore(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} of {world_size}", store)
        kind = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(kind, store=store, rank=rank, world_size=world_size)
        atexit.register(dist.destroy_process_group)
    return device
