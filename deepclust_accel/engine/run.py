"""What a step, a pass or a stop rule may see of the outside world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deepclust_accel.data.room import column_sums, room
from deepclust_accel.engine import collectives
from deepclust_accel.engine.seeding import derive_seed
from deepclust_accel.engine.terms import Terms

if TYPE_CHECKING:
    from deepclust_accel.data.loader import Loader
    from deepclust_accel.data.source import Batch
    from deepclust_accel.engine.runtime import Runtime

__all__ = ["Run"]

READ_ROWS = 2048  # rows per batch of a pass: large enough for BLAS, small beside any network's activations


class Run:
    """The window of a method: where it is in training, its rows, its random numbers, and its log.

    Attributes:
        rank, world_size, device: of this process.
        epoch, step: within the current stage; ``step`` counts optimizer rounds over all epochs of it.
        epochs, steps_per_epoch: of the current stage.
        generator: random numbers of this rank, seeded anew each epoch. What belongs to a row is drawn by :meth:`per_row`.
        shared_generator: the same numbers on every rank (choosing rows, initialising centers).
        history: the records of all finished epochs, oldest first.
        autocast: makes the block in which :meth:`collect` calls networks (engine).
    """

    def __init__(self, runtime: Runtime, loader: Loader, seed: int):
        self.rank, self.world_size, self.device = runtime.rank, runtime.world_size, runtime.device
        self.epoch = self.step = 0
        self.epochs = self.steps_per_epoch = 1
        self.history: list[dict] = []
        self.generator, self._row_generator = (torch.Generator(device=self.device) for _ in range(2))
        self._first, self._total, self._share = 0, 0, 1.0
        self.shared_generator = torch.Generator(device="cpu")
        self._loader, self._seed = loader, seed
        self._terms = Terms()
        self.autocast: Callable[[], AbstractContextManager] = nullcontext

    @property
    def rows(self) -> int | None:
        """N, the number of rows over all ranks, or None for a stream of unknown length."""
        return self._loader.source.spec.rows

    @property
    def progress(self) -> float:
        """0 at the first step of the stage, towards 1 at its end."""
        return self.step / max(1, self.epochs * self.steps_per_epoch)

    def batches(self) -> Iterator[Batch]:
        """Every row of this rank once, in row order, on the device; nothing padded, nothing dropped."""
        yield from self._loader.sequential(batch_size=READ_ROWS, rank=self.rank, world_size=self.world_size)

    def epoch_batches(self, batch_size: int, stage: int, equal_shards: bool) -> Iterator[Batch]:
        """The shuffled batches of the current epoch (engine)."""
        return self._loader.epoch(
            stage=stage,
            epoch=self.epoch,
            batch_size=batch_size,
            rank=self.rank,
            world_size=self.world_size,
            equal_shards=equal_shards,
        )

    def rows_of_step(self, step: int, batch_size: int, stage: int, equal_shards: bool) -> list[int]:
        """Numbers of the rows that all ranks had in a step of the current epoch, counted from its start (engine)."""
        rows = self._loader.row_numbers(
            stage=stage, epoch=self.epoch, batch_size=batch_size, world_size=self.world_size, equal_shards=equal_shards
        )
        return next(islice(rows, step, None)).tolist()

    def begin_step(self, batch: Batch) -> None:
        """A step on these rows begins (engine)."""
        self._first, self._total, self._share = batch.first, batch.total, batch.share

    def per_row(self, draw: Callable[[torch.Generator, int], Tensor], axis: int = 0) -> Tensor:
        """Random numbers for the rows of the current batch; a row gets the same on any number of ranks.

        Args:
            draw: called with a generator on the device and the number of rows of all ranks' batches together; returns a
                tensor with those rows along ``axis``, of which this rank's are returned.

        >>> noise = run.per_row(lambda g, n: torch.randn(n, 10, generator=g, device=run.device))  # doctest: +SKIP
        """
        drawn = draw(self._row_generator, self._total)
        first = min(self._first, self._total - 1)
        own = self._total * (self.rank + 1) // self.world_size - self._first
        return drawn.narrow(axis, first, max(1, own))

    def sample(self, count: int) -> Tensor:
        """(n, …) at most ``count`` rows, the same whenever and on whatever rank they are asked for; in row order."""
        return self._loader.sample(count, derive_seed(self._seed, "sample")).x

    def count_steps(self, batch_size: int, equal_shards: bool) -> int:
        """How many batches an epoch has (engine)."""
        return self._loader.steps(batch_size, self.world_size, equal_shards)

    def collect(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``function`` to the rows of every batch of this rank; (n_local, …), without gradient.

        Where a refresh is due in mixed precision, networks run in it; what comes back has 32 bits at least.
        Many values (beyond 64 MiB, on the CPU) lie in a temporary file rather than in memory: go through them in pieces.
        """
        first, last = self._loader.part(self.rank, self.world_size)
        filled, at = torch.empty(0), 0
        with torch.no_grad(), self.autocast(), closing(self.batches()) as batches:
            for batch in batches:
                values = function(batch.x)
                if at == 0:  # one tensor for all rows: joining the batches at the end would need twice the memory
                    kind = (
                        torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else values.dtype
                    )
                    filled = room((last - first, *values.shape[1:]), kind, values.device)
                filled[at : at + len(values)] = values
                at += len(values)
        return filled

    def row_numbers(self) -> Tensor:
        """(n_local,) int64 global numbers of the rows that :meth:`batches` and :meth:`collect` go through."""
        return torch.arange(*self._loader.part(self.rank, self.world_size), device=self.device)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """(n, …) per rank → (W n, …), differentiable."""
        return collectives.gather_rows(rows)

    def gather(self, rows: Tensor) -> tuple[Tensor, int]:
        """(n, …) per rank → (W n, …), and the place of this rank's first row: what the pair losses take as ``gather``."""
        return (rows, 0) if self.world_size == 1 else (collectives.gather_rows(rows), self.rank * len(rows))

    def over_ranks(self, loss: Tensor) -> Tensor:
        """A loss of the rows of all ranks that has, on each, the gradient of its own rows: these are added, not averaged."""
        return loss if self.world_size == 1 else loss.detach() + self.world_size * (loss - loss.detach())

    def mean_rows(self, values: Tensor) -> Tensor:
        """Mean over the rows of all ranks of values (n, …) of this rank's; no gradient."""
        if self.world_size == 1:
            return values.mean(0)
        total = self.sum_ranks(column_sums(values)) / self.rows
        return total.to(values.dtype)

    def sum_ranks(self, values: Tensor) -> Tensor:
        """Sum over ranks; no gradient."""
        return collectives.sum_ranks(values)

    def log(self, **values: Tensor | float) -> None:
        """Add values to the epoch's record, which holds their means over steps and rows; not read back until it ends."""
        for name, value in values.items():
            self._terms.add(self.step, name, value if self._share == 1.0 else value * self._share)

    def take_log(self) -> tuple[dict[str, float], dict[str, int]]:
        """Means of what was logged since the last call, and the first step of each term that was not finite (engine)."""
        return self._terms.take()

    def reseed(self, stage: int, epoch: int) -> None:
        """Start the random numbers of an epoch; also seeds torch's global generator, for modules like Dropout (engine)."""
        self._share = 1.0
        mine = derive_seed(self._seed, "rank", stage, epoch, self.rank)
        self.generator.manual_seed(derive_seed(self._seed, "own", stage, epoch, self.rank))
        self._row_generator.manual_seed(derive_seed(self._seed, "rank", stage, epoch, 0))
        self.shared_generator.manual_seed(derive_seed(self._seed, "shared", stage, epoch))
        torch.manual_seed(mine)
