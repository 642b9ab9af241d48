"""What a method may ask the engine to do. Plain data: no loop, no torch.distributed, no lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deepclust_accel.errors import PluginError

if TYPE_CHECKING:
    from deepclust_accel.engine.run import Run

__all__ = ["Every", "Group", "Pass", "Stage", "Train", "Update"]


@dataclass(frozen=True)
class Update:
    """One optimizer step: minimise ``loss`` over the parameters of ``group``; ``logs`` are averaged per epoch."""

    loss: Tensor
    group: str = "main"
    logs: Mapping[str, Tensor | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Parts trained by one optimizer.

    Args:
        parts: names from ``Method.parts()``.
        learning_rate: at epoch 0.
        optimizer: "adam", "adamw" or "sgd".
        options: further keyword arguments of the torch optimizer (``eps``, ``momentum``, ``weight_decay`` …).
        decay: epoch -> factor on ``learning_rate``; a pure function, so that resuming needs no scheduler state.
        clip_norm: largest allowed gradient norm, or None.
    """

    parts: tuple[str, ...]
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    options: Mapping[str, Any] = field(default_factory=dict)
    decay: Callable[[int], float] | None = None
    clip_norm: float | None = None

    def __post_init__(self):
        if isinstance(self.parts, str):
            raise PluginError(f"Group: expected a tuple of names of parts, got {self.parts!r}; write ({self.parts!r},)")


@dataclass(frozen=True)
class Every:
    """Closed-form work inside epochs: ``do(run)`` before every ``steps``-th step, without gradient."""

    steps: int
    do: Callable[[Run], None]


@dataclass(frozen=True)
class Train:
    """Epochs of gradient steps.

    ``step(nets, batch, run)`` returns the mean loss over its rows, or is a generator that yields :class:`Update`; after
    each yield the engine has done backward and the optimizer step, so that the generator goes on with updated networks.

    Args:
        batch_size: rows per step on each rank.
        least_steps: of an epoch: where there are too few rows, batches are smaller than ``batch_size``, of 16 rows over all
            ranks at least.
        before_epoch: gradient-free refresh (targets, centers), networks in eval mode.
        stop: asked after each epoch, with the history at hand; True ends the stage.
        needs_equal_shards: for losses over pairs of rows: the ragged last batch is dropped, so that every step sees a
            full batch (a smaller one would change what the loss means) and all ranks see equally many rows.
        recipe: JSON-able facts which, with the rows, the seed and the parts as they are before it, determine what the
            stage makes of its parts, by which its result can be kept and taken again; None where it depends on more.
    """

    name: str
    step: Callable
    groups: Mapping[str, Group]
    epochs: int
    batch_size: int = 256
    before_epoch: Callable[[Run], None] | None = None
    every: Every | None = None
    stop: Callable[[Run], bool] | None = None
    needs_equal_shards: bool = False
    recipe: Mapping[str, Any] | None = None
    least_steps: int = 1

    def batch_rows(self, rows: int | None, world_size: int = 1) -> int:
        """Rows per step on each of ``world_size`` ranks, of ``rows`` in all (None: unknown).

        Where ``least_steps`` decides, they are as many over all ranks as on one, but for rounding.
        """
        if rows is None or self.least_steps == 1:
            return self.batch_size
        return min(self.batch_size, max(1, max(16, rows // self.least_steps) // world_size))


@dataclass(frozen=True)
class Pass:
    """Look at all rows once or more without gradient: k-means, GMM, any closed form. Networks are in eval mode."""

    name: str
    run: Callable[[Run], None]


Stage = Train | Pass
