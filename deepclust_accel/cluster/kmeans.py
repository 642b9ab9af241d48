"""k-means as it should be run on embeddings: many careful restarts at once, rows on any number of ranks.

All restarts share one matrix product per chunk of rows, and per-cluster sums change only by the rows that moved, so
later iterations cost little more than that product. Of very many rows a sample decides which restart wins, and only that
one sees them all, piece by piece, so that memory does not grow with them.

Whatever is picked from the data is picked by global row number from a sample that every rank holds, so the number of
ranks changes nothing but the order of float64 additions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops
from ..data.room import column_sums, pieces, room
from ..errors import ArgumentError

SEED_ROWS = 20_000  # rows that seeding and reseeding look at, at most (or K, if larger)

STREAMED_ROWS = 1 << 20  # beyond so many rows only the winner sees all of them
TRIAL_ROWS = 1 << 18  # that the restarts see in that case, at most (or K, if larger)

_TIE = 1e-10  # restarts whose gains differ by less have found the same clusters, perhaps in another order

_COLUMNS = 4096  # centers of all restarts handled together
_ROWS_MOVED = 1 << 20  # rows gathered at a time

SumRanks = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class KMeansResult:
    """Outcome of the best restart.

    Attributes:
        centers: (K, Z), dtype and device of the rows; the same on every rank.
        labels: (n,) int64, nearest center of each local row.
        inertia: Sum over all rows of the squared distance to the nearest center.
        iterations: Lloyd iterations of that restart.
    """

    centers: Tensor
    labels: Tensor
    inertia: float
    iterations: int


@dataclass(frozen=True, eq=False)
class _Scale:
    """Centres all columns and divides all by one number, so that products neither cancel nor overflow."""

    mean: Tensor
    spread: Tensor
    dtype: torch.dtype

    def apply(self, z: Tensor) -> Tensor:
        x = torch.empty(z.shape, dtype=self.dtype, device=z.device)
        for rows in pieces(z):
            x[rows] = ((z[rows].double() - self.mean) / self.spread).to(self.dtype)
        return x


@torch.no_grad()
def kmeans(
    z: Tensor,
    k: int,
    *,
    generator: torch.Generator,
    n_init: int = 20,
    iterations: int = 100,
    tolerance: float = 1e-4,
    sum_ranks: SumRanks | None = None,
    index: Tensor | None = None,
) -> KMeansResult:
    """Cluster rows by exact Lloyd iterations from several greedy k-means++ seedings; the lowest inertia wins.

    Seeding (Arthur and Vassilvitskii 2007, greedy as in scikit-learn: best of 2 + ln K candidates) looks at 20,000 rows
    at most, spread evenly over the row numbers; Lloyd's iterations see all rows. Beyond 1,048,576 rows the restarts
    compete on 262,144 of them, spread as evenly, and the winner alone goes on with exact iterations over all.
    A cluster that loses its last row restarts at the row of the first sample that is farthest from its center. With fewer
    distinct rows than K some clusters stay empty.

    Args:
        z: (n, Z) rows of this rank, any float dtype; n may be 0 on some ranks.
        k: Number of clusters, 1 <= k <= N, the rows of all ranks together.
        generator: Where random numbers come from; in the same state on every rank. No other generator is touched.
        n_init: Number of restarts.
        iterations: Most iterations of a restart.
        tolerance: Stop when the centers' squared shifts add up to at most this times the mean variance of a column.
        sum_ranks: Adds a tensor over all ranks; None on a single one.
        index: (n,) int64 global row numbers of ``z``; all ranks together have 0..N-1 once each. May be left out when
            all rows are here, in order.

    Raises:
        ArgumentError (a ValueError): k < 1, k > N, a value that is not finite, or rows on several ranks without
            their numbers.

    Cost: O(N K Z) per iteration and restart; memory one float32 copy of ``z`` (float64 for float64), one int64 per row
    and concurrent restart, and chunks of at most 1 MiB (CPU) of distances; beyond 1,048,576 rows nothing that grows
    with them but the labels, which :func:`~deepclust_accel.data.room.room` puts into a file. The arithmetic is
    float32 matrix products on centred and rescaled rows for choosing the nearest center, float64 for sums and inertia.
    """
    add = sum_ranks or (lambda values: values)
    _check_arguments(z, n_init, iterations, tolerance)
    scale, total = _scale_of(z, add)
    if not 1 <= k <= total:
        raise ArgumentError(f"k: expected 1 <= k <= {total}, the number of rows, got {k}")
    index = _row_numbers(z, index, total, add)
    sample = scale.apply(_shared_sample(z, index, total, max(SEED_ROWS, k), generator, add))
    if total <= STREAMED_ROWS:
        x = scale.apply(z)
        centers, steps = _best_restart(x, sample, k, n_init, generator, iterations, tolerance, add)
        labels = _nearest(x, centers[None])[0]
    else:
        trial = scale.apply(_shared_sample(z, index, total, max(TRIAL_ROWS, k), generator, add))
        centers, _ = _best_restart(trial, sample, k, n_init, generator, iterations, tolerance, lambda values: values)
        centers, steps = _go_on(z, scale, sample, centers, iterations, tolerance, add)
        labels = room((len(z),), torch.int64, z.device)
        for rows in pieces(z):
            labels[rows] = _nearest(scale.apply(z[rows]), centers[None])[0]
    centers = centers * scale.spread + scale.mean
    return KMeansResult(centers.to(z.dtype), labels, float(add(_inertia(z, centers, labels))), steps)


def _best_restart(
    x: Tensor,
    sample: Tensor,
    k: int,
    n_init: int,
    generator: torch.Generator,
    iterations: int,
    tolerance: float,
    add: SumRanks,
) -> tuple[Tensor, int]:
    """Centers (K, Z) float64 with the lowest inertia on rows x, and the iterations they took."""
    rows = int(add(torch.tensor([float(len(x))], dtype=torch.float64, device=x.device)))
    together = max(1, min(n_init, _COLUMNS // k, (1 << 24) // rows))
    best_gain, best, steps = float("-inf"), None, 0
    for first in range(0, n_init, together):
        seeds = _seed(sample, k, min(together, n_init - first), generator)
        centers, gains, counts = _lloyd(x, sample, seeds, iterations, tolerance, add)
        winner = int((gains >= gains.max() * (1 - _TIE)).nonzero()[0])  # the first of equals, whatever the rounding
        if float(gains[winner]) * (1 - _TIE) > best_gain:
            best_gain, best, steps = float(gains[winner]), centers[winner], counts[winner]
    return best, steps


def _go_on(
    z: Tensor, scale: _Scale, sample: Tensor, centers: Tensor, iterations: int, tolerance: float, add: SumRanks
) -> tuple[Tensor, int]:
    """Iterate one set of centers (K, Z) over all rows, piece by piece; return them and how often."""
    done = 0
    while done < iterations:
        done += 1
        sums = centers.new_zeros(len(centers), centers.shape[1] + 1)
        for rows in pieces(z):
            x = scale.apply(z[rows])
            found = ops.center_sums(x, ops.nearest_center(x, centers.to(x.dtype))[0], len(centers))
            sums[:, :-1] += found[0]
            sums[:, -1] += found[1]
        sums = add(sums)
        moved = torch.where(sums[:, -1:] > 0, sums[:, :-1] / sums[:, -1:].clamp_min(1.0), centers)
        fresh = _fill_empty(sample, moved[None], (sums[:, -1] == 0)[None])
        shift, centers = float((moved - centers).square().sum()), moved
        if shift <= tolerance and not bool(fresh):
            break
    return centers, done


def _check_arguments(z: Tensor, n_init: int, iterations: int, tolerance: float) -> None:
    if z.ndim != 2 or z.shape[1] == 0 or not z.is_floating_point():
        raise ArgumentError(f"z: expected a float tensor of shape (rows, columns), got {tuple(z.shape)} of {z.dtype}")
    if n_init < 1 or iterations < 1:
        raise ArgumentError(f"n_init and iterations: expected at least 1, got {n_init} and {iterations}")
    if not tolerance >= 0:
        raise ArgumentError(f"tolerance: expected a number >= 0, got {tolerance}")


def _scale_of(z: Tensor, add: SumRanks) -> tuple[_Scale, int]:
    """The scale of the rows of all ranks, and how many there are."""
    count = torch.tensor([float(len(z))], dtype=torch.float64, device=z.device)
    sums = add(torch.cat([column_sums(z), count]))
    total = int(sums[-1])
    if total == 0:
        raise ArgumentError("z: expected at least one row, got none")
    mean = sums[:-1] / total
    square = torch.zeros(1, dtype=torch.float64, device=z.device)
    for rows in pieces(z):
        square += (z[rows].double() - mean).square_().sum()
    spread = (add(square)[0] / (total * z.shape[1])).sqrt()
    if not bool(mean.isfinite().all() & spread.isfinite()):
        raise ArgumentError("z: expected finite values, got NaN or infinite ones")
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    return _Scale(mean, torch.where(spread > 0, spread, 1.0), dtype), total


def _row_numbers(z: Tensor, index: Tensor | None, total: int, add: SumRanks) -> Tensor | None:
    """The numbers, checked; None where all rows are here, in order."""
    if index is None:
        # every rank must come to the same verdict, or the others would wait for it for ever
        alone = add(torch.tensor([float(0 < len(z) < total)], dtype=torch.float64, device=z.device))
        if float(alone) > 0:
            raise ArgumentError("index: expected the global row numbers, since rows lie on several ranks, got none")
        return None
    index = index.to(z.device, torch.int64)
    wrong = torch.tensor([float(index.shape != (len(z),))], dtype=torch.float64, device=z.device)
    number_sum = index.sum(dtype=torch.float64).view(1)
    found = add(torch.cat([wrong, number_sum]))
    expected = total * (total - 1) / 2
    if float(found[0]) > 0 or abs(float(found[1]) - expected) > 1e-12 * expected:  # the sum is exact up to 2^53
        raise ArgumentError(f"index: expected each row number 0..{total - 1} once over all ranks, got others")
    return index


def _shared_sample(
    z: Tensor, index: Tensor | None, total: int, most: int, generator: torch.Generator, add: SumRanks
) -> Tensor:
    """(S, Z) float64 rows, one from each of S equal stretches of row numbers; the same on every rank."""
    size = min(total, most)
    edges = torch.arange(size + 1) * total // size
    drawn = torch.rand(size, dtype=torch.float64, generator=generator, device=generator.device).cpu()
    picked = (edges[:-1] + (drawn * (edges[1:] - edges[:-1])).long()).to(z.device)
    sample = torch.zeros(size, z.shape[1], dtype=torch.float64, device=z.device)
    if index is None:
        return add(z[picked].double() if len(z) else sample)
    for rows in pieces(index):
        place = torch.searchsorted(picked, index[rows]).clamp_max_(size - 1)
        mine = picked[place] == index[rows]
        sample[place[mine]] = z[rows][mine].double()
    return add(sample)


def _seed(sample: Tensor, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """(R, K, Z) float64 centers by greedy k-means++, all restarts in step."""
    size = len(sample)
    trials = 2 + int(math.log(k))
    uniform = torch.rand(k, restarts, trials, dtype=torch.float64, generator=generator, device=generator.device)
    uniform = uniform.to(sample.device)
    square = sample.square().sum(1)
    each = torch.arange(restarts, device=sample.device)
    chosen = torch.empty(restarts, k, dtype=torch.int64, device=sample.device)
    chosen[:, 0] = (uniform[0, :, 0] * size).long()
    closest = _squared_distances(sample, square, chosen[:, 0]).scatter_(1, chosen[:, :1], 0.0)  # (R, S)
    for step in range(1, k):
        reach = closest.cumsum(1, dtype=torch.float64)
        # right=True: a row at distance 0, such as one chosen before, is never drawn while another is left
        drawn = torch.searchsorted(reach, uniform[step] * reach[:, -1:], right=True).clamp_max_(size - 1)  # (R, T)
        distance = _squared_distances(sample, square, drawn.view(-1)).view(restarts, trials, size)
        torch.minimum(distance, closest[:, None], out=distance)
        best = distance.sum(2).argmin(1)
        chosen[:, step] = drawn[each, best]
        closest = distance[each, best].scatter_(1, chosen[:, step, None], 0.0)
    return sample[chosen].double()


def _squared_distances(sample: Tensor, square: Tensor, rows: Tensor) -> Tensor:
    """(len(rows), S) squared distances of some sample rows to all, by the product form."""
    distance = torch.addmm(square[None, :], sample[rows], sample.T, alpha=-2.0)
    return distance.add_(square[rows][:, None]).clamp_min_(0.0)


def _lloyd(
    x: Tensor, sample: Tensor, centers: Tensor, iterations: int, tolerance: float, add: SumRanks
) -> tuple[Tensor, Tensor, list[int]]:
    """Iterate all restarts; return centers (R, K, Z), gains (R,) and iteration counts.

    The gain is ``sum n_k |c_k|^2``: for centers that are means, total scatter minus inertia, so the largest wins.
    """
    restarts = len(centers)
    final, gains, counts = centers.clone(), centers.new_zeros(restarts), [0] * restarts
    active = list(range(restarts))
    tally = _Tally(restarts, centers.shape[1], x)
    for iteration in range(1, iterations + 1):
        tally.update(_nearest(x, centers))
        sums = add(tally.sums)
        population = sums[..., -1:]
        moved = torch.where(population > 0, sums[..., :-1] / population.clamp_min(1.0), centers)
        gain = (population * moved.square()).sum((1, 2))
        fresh = _fill_empty(sample, moved, population[..., 0] == 0)
        shift = (moved - centers).square().sum((1, 2))
        done = ((shift <= tolerance) & ~fresh) if iteration < iterations else torch.ones_like(fresh)
        centers = moved
        if bool(done.any()):
            for place in done.nonzero().view(-1).tolist():
                restart = active[place]
                final[restart], gains[restart], counts[restart] = centers[place], gain[place], iteration
            if bool(done.all()):
                break
            active = [restart for restart, finished in zip(active, done.tolist(), strict=True) if not finished]
            centers = centers[~done]
            tally.keep(~done)
    return final, gains, counts


class _Tally:
    """Per-cluster sums and counts of local rows, kept up to date by the rows that changed cluster.

    In float64, so that the drift of adding and taking away stays at rounding level.
    """

    def __init__(self, restarts: int, k: int, x: Tensor):
        self._x = x
        self._labels = None
        self.sums = torch.zeros(restarts, k, x.shape[1] + 1, dtype=torch.float64, device=x.device)  # last: counts

    def update(self, labels: Tensor) -> None:
        restarts, k, width = self.sums.shape
        before, self._labels = self._labels, labels
        changed = _all_pairs(*labels.shape, labels.device) if before is None else (labels != before).nonzero()
        for start in range(0, len(changed), _ROWS_MOVED):
            restart, row = changed[start : start + _ROWS_MOVED].unbind(1)
            rows = self._x[row]
            self._add(rows, restart * k + labels[restart, row], 1)
            if before is not None:
                self._add(rows, restart * k + before[restart, row], -1)

    def _add(self, rows: Tensor, place: Tensor, sign: int) -> None:
        restarts, k, width = self.sums.shape
        sums, counts = ops.center_sums(rows, place, restarts * k)
        self.sums[..., :-1].add_(sums.view(restarts, k, width - 1), alpha=sign)
        self.sums[..., -1].add_(counts.view(restarts, k), alpha=sign)

    def keep(self, chosen: Tensor) -> None:
        self.sums, self._labels = self.sums[chosen], self._labels[chosen]


def _all_pairs(restarts: int, rows: int, device: torch.device) -> Tensor:
    return torch.cartesian_prod(torch.arange(restarts, device=device), torch.arange(rows, device=device)).view(-1, 2)


def _nearest(x: Tensor, centers: Tensor) -> Tensor:
    """(R, n) int64 nearest center of every row for each of R sets of centers (R, K, Z); the first one of equals."""
    return torch.stack([ops.nearest_center(x, each.to(x.dtype))[0] for each in centers])


def _fill_empty(sample: Tensor, centers: Tensor, empty: Tensor) -> Tensor:
    """Move centers (R, K, Z) without rows to the sample rows farthest from all, in place; (R,) which changed."""
    changed = torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    for restart in empty.any(1).nonzero().view(-1).tolist():
        populated = centers[restart][~empty[restart]]
        labels = _nearest(sample, populated[None])[0]
        distance = (sample.double() - populated[labels]).square().sum(1)
        # below this, rows only differ from their center by rounding: fewer distinct rows than clusters
        floor = (16 * torch.finfo(sample.dtype).eps) ** 2 * sample.shape[1]
        for cluster in empty[restart].nonzero().view(-1).tolist():
            farthest = int(distance.argmax())
            if float(distance[farthest]) <= floor:
                break
            centers[restart, cluster] = sample[farthest].double()
            distance = torch.minimum(distance, (sample - sample[farthest]).double().square_().sum(1))
            changed[restart] = True
    return changed


def _inertia(z: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Sum over local rows of the squared distance to their center, (1,) float64."""
    total = torch.zeros(1, dtype=torch.float64, device=z.device)
    for rows in pieces(z):
        total += (z[rows] - centers[labels[rows]]).square_().sum()
    return total
