"""Batches in an order that depends on nothing but seed, stage and epoch.

No counter, no worker process, no global random state: an epoch can be asked for again, out of turn, after a resume or
on another number of ranks, and shows the same global batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from ..errors import ArgumentError, DataError
from .ahead import read_ahead
from .rows import draw_rows
from .scaling import Scaling
from .source import Batch, DataSource, known_rows


class Loader:
    """Scaled batches of a source, for one of W ranks.

    Args:
        source: Where rows come from.
        seed: Any integer >= 0; with stage and epoch it fixes the order.
        scaling: Applied to every batch.
        device: Of ``Batch.x`` and ``Batch.index``. Rows travel in their stored dtype and are scaled over there.

    A source in blocks (``source.blocks``) is shuffled in blocks: an epoch draws an order of the blocks, and goes through
    it in windows of ``blocks.window`` blocks whose rows it mixes. Every row comes once, and a batch holds rows of one or two
    windows. Where a source asks for it (``source.read_ahead``), a thread reads the rows of the next batches.

    Cost: a batch is one gather of its rows, one conversion and the scaling; an epoch holds one permutation of all
    rows (8 bytes each), or of those of a window.

    Raises:
        DataError: No rows, an unknown number of rows, or rows of another shape than the scaling was fitted to.
        ArgumentError: A negative seed.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        seed: int,
        scaling: Scaling | None = None,
        device: torch.device | str = "cpu",
    ):
        if seed < 0:
            raise ArgumentError(f"seed: expected an integer >= 0, got {seed}")
        self.source = source
        self.rows = known_rows(source)
        self.seed = int(seed)
        self.scaling = Scaling() if scaling is None else scaling
        self.scaling.check_shape(source.spec.shape)
        self.device = torch.device(device)

    def epoch(
        self, *, stage: int, epoch: int, batch_size: int, rank: int = 0, world_size: int = 1, equal_shards: bool = False
    ) -> Iterator[Batch]:
        """This rank's batches of one shuffled epoch.

        Global batch b is the rows ``[b*B*W, (b+1)*B*W)`` of one permutation shared by all ranks; each rank has a
        contiguous part of it. So W ranks with batch size B see what one process sees with batch size B*W.

        Args:
            stage: Number of the stage; together with epoch and seed it fixes the permutation.
            epoch: Number of the epoch.
            batch_size: Rows per rank and step, B.
            rank: This rank.
            world_size: Number of ranks, W.
            equal_shards: Drop the ragged end, so that every rank has B rows in every step; where there are fewer than
                B*W rows, one step of N // W rows on every rank. Otherwise every row counts exactly once: the last global
                batch is shorter and split as evenly as can be. If it has fewer than W rows, ranks without one see its
                first with a share of 0; the number of steps is the same on all ranks in any case.

        Raises:
            ArgumentError: A batch size, rank or world size out of range.
            DataError: equal_shards with fewer rows than ranks.
        """
        steps = self.steps(batch_size, world_size, equal_shards)
        _check_rank(rank, world_size)
        together = self._shuffled(steps, (stage, epoch), batch_size, world_size, equal_shards)
        return self._batches((_own(rows, rank, world_size) for rows in together), batch_size)

    def row_numbers(
        self, *, stage: int, epoch: int, batch_size: int, world_size: int = 1, equal_shards: bool = False
    ) -> Iterator[np.ndarray]:
        """Numbers of the rows in the batches of all ranks together, step by step, without reading them; as :meth:`epoch`."""
        steps = self.steps(batch_size, world_size, equal_shards)
        return self._shuffled(steps, (stage, epoch), batch_size, world_size, equal_shards)

    def sequential(self, *, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Every row once, in row order; each rank has one contiguous part.

        Rank r has the rows ``[r*N // W, (r+1)*N // W)``. Nothing is padded or dropped and no batch is empty, so
        the number of batches may differ by one between ranks, and a rank has none if there are fewer rows than ranks.

        Raises:
            ArgumentError: A batch size, rank or world size out of range.
        """
        _check_sizes(batch_size, world_size)
        _check_rank(rank, world_size)
        first, last = self.part(rank, world_size)
        starts = range(first, last, batch_size)
        places = (_Place(np.arange(start, min(start + batch_size, last), dtype=np.int64)) for start in starts)
        return self._batches(places, batch_size)

    def part(self, rank: int = 0, world_size: int = 1) -> tuple[int, int]:
        """Numbers of the first row that ``sequential`` yields on this rank, and of the row after its last."""
        return _part(self.rows, rank, world_size)

    def steps(self, batch_size: int, world_size: int = 1, equal_shards: bool = False) -> int:
        """Number of batches that ``epoch`` yields on every rank; at least 1.

        Raises:
            ArgumentError: A batch size or world size below 1.
            DataError: equal_shards with fewer rows than ranks.
        """
        _check_sizes(batch_size, world_size)
        if not equal_shards:
            return -(-self.rows // (batch_size * world_size))
        if self.rows < world_size:
            raise DataError(
                f"data: expected at least one row for each of {world_size} ranks, got {self.rows}; use fewer processes"
            )
        return max(1, self.rows // (batch_size * world_size))

    def _shuffled(
        self, steps: int, key: tuple[int, int], batch_size: int, world_size: int, equal_shards: bool
    ) -> Iterator[np.ndarray]:
        for rows in islice(self._together(key, batch_size * world_size), steps):
            if equal_shards:
                rows = rows[: len(rows) // world_size * world_size]
            yield rows

    def _together(self, key: tuple[int, int], count: int) -> Iterator[np.ndarray]:
        """The order of an epoch in pieces of ``count`` rows, the last one shorter."""
        rest = np.empty(0, dtype=np.int64)
        for piece in self._order(*key):
            rest = np.concatenate([rest, piece]) if len(rest) else piece
            whole = len(rest) // count * count
            yield from (rest[start : start + count] for start in range(0, whole, count))
            rest = rest[whole:]
        if len(rest):
            yield rest

    def _order(self, stage: int, epoch: int) -> Iterator[np.ndarray]:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(stage, epoch))
        generator = np.random.Generator(np.random.PCG64(sequence))
        blocks = getattr(self.source, "blocks", None)
        if blocks is None:
            yield generator.permutation(self.rows)
            return
        order = generator.permutation(len(blocks.starts) - 1)
        for first in range(0, len(order), blocks.window):
            parts = [np.arange(*blocks.starts[b : b + 2]) for b in order[first : first + blocks.window]]
            yield generator.permutation(np.concatenate(parts))

    def _batches(self, places: Iterator[_Place], batch_size: int) -> Iterator[Batch]:
        raw = ((place, self.source.take(place.rows)) for place in places)
        if ahead := getattr(self.source, "read_ahead", 0):
            raw = read_ahead(raw, max(2, ahead // batch_size))
        with closing(raw):
            for place, x in raw:
                yield self._batch(place, x)

    def sample(self, count: int, seed: int) -> Batch:
        """The scaled rows that :func:`~deepclust_accel.data.rows.draw_rows` draws, on the device."""
        index = draw_rows(self.source, count, seed)
        return self._batch(_Place(index), self.source.take(index))

    def _batch(self, place: _Place, x: torch.Tensor) -> Batch:
        index = torch.from_numpy(place.rows.copy()).to(self.device)
        return Batch(self.scaling.apply(x.to(self.device)), index, place.first, place.total, place.share)


class _Place(NamedTuple):
    """Rows of a batch and, of an epoch's, where they are in the batch of all ranks; as :class:`Batch` has it."""

    rows: np.ndarray
    first: int = 0
    total: int = 0
    share: float = 1.0


def _own(together: np.ndarray, rank: int, world_size: int) -> _Place:
    """This rank's part of a global batch."""
    first, last = _part(len(together), rank, world_size)
    share = (last - first) * world_size / len(together)
    return _Place(together[first:last] if last > first else together[:1], first, len(together), share)


def shuffle_of(source: DataSource) -> str:
    """How epochs mix the rows of a source, in words for people."""
    blocks = getattr(source, "blocks", None)
    if blocks is None:
        return "all rows"
    count = len(blocks.starts) - 1
    rows = round(known_rows(source) / count * blocks.window)
    return f"windows of {blocks.window:,} of {count:,} blocks drawn at random, about {rows:,} of {known_rows(source):,} rows"


def _part(count: int, rank: int, world_size: int) -> tuple[int, int]:
    return rank * count // world_size, (rank + 1) * count // world_size


def _check_sizes(batch_size: int, world_size: int) -> None:
    if batch_size < 1:
        raise ArgumentError(f"batch_size: expected an integer >= 1, got {batch_size}")
    if world_size < 1:
        raise ArgumentError(f"world_size: expected an integer >= 1, got {world_size}")


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ArgumentError(f"rank: expected 0 <= rank < {world_size}, got {rank}")
