"""Means of logged terms, and the step at which one stopped being finite, without reading a value back before the end."""

from __future__ import annotations

import torch
from torch import Tensor

from deepclust_accel.engine import collectives
from deepclust_accel.errors import PluginError

__all__ = ["Terms"]

FOLD = 256  # values of a term that are kept before they become one sum: a device never waits, memory stays small
NEVER = torch.iinfo(torch.int64).max


class Terms:
    """Collects the values that an epoch logs."""

    def __init__(self):
        self._pending: dict[str, list[tuple[int, Tensor | float]]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._broke: dict[str, Tensor] = {}

    def add(self, step: int, name: str, value: Tensor | float) -> None:
        """Note one number, a tensor of one element or a float, that belongs to a step."""
        if isinstance(value, Tensor) and value.numel() != 1:
            shape = tuple(value.shape)
            raise PluginError(f"run.log: {name}: expected one number, got a tensor of shape {shape}; log its mean")
        pending = self._pending.setdefault(name, [])
        # a tensor of 4 bytes kept on the CPU sits between freed batches, and the heap grows by a batch each step
        if isinstance(value, Tensor):
            value = value.detach() if value.device.type != "cpu" else value.item()
        pending.append((step, float(value) if not isinstance(value, Tensor) else value))
        if len(pending) >= FOLD:
            self._fold(name)

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """Means over all steps and ranks, and for each term that was not finite its first such step on any rank."""
        for name in self._pending:
            self._fold(name)
        means = {name: float(collectives.sum_ranks(total)) / self._counts[name] for name, total in self._sums.items()}
        means = {name: mean / collectives.world_size() for name, mean in means.items()}
        broke = {name: int(collectives.min_ranks(step)) for name, step in self._broke.items()}
        self.__init__()
        return means, {name: step for name, step in broke.items() if step < NEVER}

    def _fold(self, name: str) -> None:
        if not self._pending[name]:
            return
        steps, values = zip(*self._pending[name], strict=True)
        device = next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))
        row = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=device).reshape(()) for v in values])
        bad = torch.where(row.isfinite(), NEVER, torch.tensor(steps, device=device)).min()
        self._sums[name] = self._sums.get(name, 0.0) + row.sum()
        self._broke[name] = torch.minimum(self._broke[name], bad) if name in self._broke else bad
        self._counts[name] = self._counts.get(name, 0) + len(row)
        self._pending[name] = []
