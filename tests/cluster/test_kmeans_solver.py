"""k-means finds planted clusters, is as good as scikit-learn's, and does not care how many ranks hold the rows."""

import importlib
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from deepclust_accel.cluster import kmeans
from deepclust_accel.data import room

solver = importlib.import_module("deepclust_accel.cluster.kmeans")  # the module; the package exports the function


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(rows=1000, k=7, width=5, spread=0.3, seed=0):
    g = generator(seed)
    labels = torch.arange(rows) % k
    return torch.randn(k, width, generator=g)[labels] * 4 + torch.randn(rows, width, generator=g) * spread, labels


def true_inertia(z, centers):
    distance = torch.cdist(z.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return float(distance.min(1).values.square().sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_planted_lattice(dtype, device):
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 8.0])] * 3)  # 8 corners of a cube
    steps = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)  # 27 points round each, mean 0
    z = (corners[:, None] + steps).reshape(-1, 3).to(device, dtype)
    found = kmeans(z, 8, generator=generator())
    order = (found.centers.cpu().float() @ torch.tensor([4.0, 2.0, 1.0])).argsort()
    assert found.centers.dtype == dtype
    torch.testing.assert_close(found.centers.cpu()[order], corners.to(dtype), rtol=0, atol=1e-6)
    assert found.inertia == pytest.approx(8 * 27 * 2.0, rel=1e-12)  # mean square of a step is 2/3 in each of 3 columns
    assert [set(part.tolist()) for part in found.labels.view(8, 27)] == [{int(i)} for i in order]


@pytest.mark.parametrize(("name", "k"), [("digits", 10), ("digits", 40), ("blobs", 7), ("noise", 10)])
def test_inertia_is_scikit_learns(name, k):
    z = {
        "digits": lambda: torch.from_numpy(load_digits().data).float(),
        "blobs": lambda: blobs()[0],
        "noise": lambda: torch.randn(2000, 6, generator=generator(3)),
    }[name]()
    mine = kmeans(z, k, generator=generator(), n_init=10)
    theirs = KMeans(k, n_init=10, random_state=0, max_iter=100).fit(z.numpy())
    assert mine.inertia <= 1.01 * theirs.inertia_
    assert mine.inertia == pytest.approx(true_inertia(z, mine.centers), rel=1e-5)
    nearest = torch.cdist(z.double(), mine.centers.double()).argmin(1)
    assert (nearest == mine.labels).float().mean() > 0.999


def test_centers_are_the_means_of_their_rows_when_run_to_the_end():
    z, _ = blobs(spread=3.0)
    found = kmeans(z, 7, generator=generator(), tolerance=0.0, iterations=1000)
    means = torch.stack([z[found.labels == c].double().mean(0) for c in range(7)])
    torch.testing.assert_close(found.centers.double(), means, rtol=0, atol=1e-5)
    assert found.iterations < 1000


def test_recovers_blobs_and_is_reproducible_without_global_random_state():
    z, labels = blobs()
    before = torch.get_rng_state()
    first, second = (kmeans(z, 7, generator=generator(5)) for _ in range(2))
    assert adjusted_rand_score(labels, first.labels) == 1.0
    assert torch.equal(first.centers, second.centers) and torch.equal(first.labels, second.labels)
    assert (first.inertia, first.iterations) == (second.inertia, second.iterations)
    assert torch.equal(torch.get_rng_state(), before)


def test_more_restarts_are_never_worse_and_different_seeds_differ():
    z = torch.randn(600, 8, generator=generator(1))
    single = [kmeans(z, 12, generator=generator(seed), n_init=1).inertia for seed in range(6)]
    assert len(set(single)) > 1
    assert kmeans(z, 12, generator=generator(), n_init=20).inertia <= sorted(single)[1]


def over_ranks(z, k, world_size, seed=0, shuffled=False, **options):
    """Run on threads that meet at a barrier to add, as ranks would."""
    index = torch.randperm(len(z), generator=generator(9)) if shuffled else torch.arange(len(z))
    shards = index.tensor_split(world_size)
    barrier, slots, results = threading.Barrier(world_size), [None] * world_size, [None] * world_size

    def rank(number):
        def add(values):
            slots[number] = values.clone()
            barrier.wait(60)
            total = sum(slots[1:], slots[0].clone())
            barrier.wait(60)
            return total

        try:
            results[number] = kmeans(
                z[shards[number]], k, generator=generator(seed), sum_ranks=add, index=shards[number], **options
            )
        except Exception as error:
            results[number] = error
            barrier.abort()

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return shards, results


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffled", [False, True])
def test_ranks_give_the_result_of_one(world_size, shuffled):
    z, _ = blobs(rows=503, spread=1.5)
    alone = kmeans(z, 9, generator=generator(), n_init=6)
    shards, results = over_ranks(z, 9, world_size, shuffled=shuffled, n_init=6)
    for shard, found in zip(shards, results, strict=True):
        torch.testing.assert_close(found.centers, alone.centers, rtol=1e-5, atol=1e-5)
        assert torch.equal(found.centers, results[0].centers)
        assert torch.equal(found.labels, alone.labels[shard])
        assert found.inertia == pytest.approx(alone.inertia, rel=1e-9) and found.iterations == alone.iterations


def test_ranks_agree_where_seeding_looks_at_a_sample(monkeypatch):
    monkeypatch.setattr(solver, "SEED_ROWS", 100)
    z, labels = blobs(rows=2000)
    alone = kmeans(z, 7, generator=generator())
    assert adjusted_rand_score(labels, alone.labels) == 1.0
    shards, results = over_ranks(z, 7, 3)
    for shard, found in zip(shards, results, strict=True):
        assert torch.equal(found.labels, alone.labels[shard])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_very_many_rows_the_best_restart_of_a_sample_goes_on_over_all(monkeypatch, dtype):
    """A fixed point of Lloyd's on all rows, the one that all restarts on all rows find, on any number of ranks."""
    z, labels = blobs(rows=3000, spread=1.2)
    z = z.to(dtype) + 100
    exact = kmeans(z, 7, generator=generator())
    monkeypatch.setattr(solver, "STREAMED_ROWS", 2000)
    monkeypatch.setattr(solver, "TRIAL_ROWS", 500)
    monkeypatch.setattr(room, "_PIECE_BYTES", 700 * z.element_size() * z.shape[1])
    found = kmeans(z, 7, generator=generator(), tolerance=0.0)
    assert found.inertia == pytest.approx(exact.inertia, rel=1e-4) and found.iterations > 1
    distance = torch.cdist(z.double(), found.centers.double())
    assert torch.equal(distance.argmin(1), found.labels)
    means = torch.stack([z[found.labels == k].double().mean(0) for k in range(7)])
    torch.testing.assert_close(found.centers.double(), means, rtol=1e-6, atol=1e-4)
    shards, results = over_ranks(z, 7, 3, shuffled=True, tolerance=0.0)
    for shard, ranked in zip(shards, results, strict=True):
        assert torch.equal(ranked.labels, found.labels[shard])


def test_a_rank_without_rows_takes_part():
    z, _ = blobs(rows=3)
    _, results = over_ranks(z, 2, 5, n_init=3)
    assert [len(found.labels) for found in results] == [1, 1, 1, 0, 0]
    assert all(torch.equal(found.centers, results[0].centers) for found in results)


def test_several_ranks_need_row_numbers_that_fit():
    z, _ = blobs(rows=40)
    with pytest.raises(ValueError, match="index: expected the global row numbers"):
        kmeans(z, 3, generator=generator(), sum_ranks=lambda values: 2 * values)
    for index in (torch.arange(39), torch.arange(40) + 1, torch.zeros(40, dtype=torch.int64)):
        with pytest.raises(ValueError, match="index: expected each row number"):
            kmeans(z, 3, generator=generator(), index=index)


@pytest.mark.parametrize("k", [1, 2, 30])
def test_extreme_numbers_of_clusters(k):
    z = torch.randn(30, 4, generator=generator(2))
    found = kmeans(z, k, generator=generator())
    assert found.centers.shape == (k, 4) and set(found.labels.tolist()) == set(range(k))
    if k == 1:
        torch.testing.assert_close(found.centers[0], z.mean(0))
        assert found.inertia == pytest.approx(float((z - z.mean(0)).square().sum()), rel=1e-6)
    if k == 30:
        assert found.inertia < 1e-9


@pytest.mark.parametrize(("rows", "k"), [(1, 1), (2, 1), (2, 2)])
def test_tiny(rows, k):
    found = kmeans(torch.arange(float(rows))[:, None], k, generator=generator())
    assert sorted(found.labels.tolist()) == ([0] * rows if k == 1 else [0, 1])
    assert found.inertia == pytest.approx(0.5 if (rows, k) == (2, 1) else 0.0)


@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_distinct_rows_than_clusters(k, dtype):
    z = torch.tensor([[0.1, 0.2], [0.7, -1.3], [5.1, 3.3]], dtype=dtype)[torch.arange(12) % 3]
    found = kmeans(z, k, generator=generator())
    assert bool(found.centers.isfinite().all())
    if k >= 3:
        assert found.inertia < 1e-10
        torch.testing.assert_close(found.centers[found.labels], z)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_constant_rows(value):
    found = kmeans(torch.full((50, 3), value), 4, generator=generator())
    torch.testing.assert_close(found.centers[found.labels], torch.full((50, 3), value))
    assert found.inertia == 0.0 and bool(found.centers.isfinite().all())


@pytest.mark.parametrize(
    ("scale", "shift", "dtype"),
    [
        (1e-20, 0, torch.float32),
        (1e-30, 0, torch.float32),
        (1e30, 0, torch.float32),
        (1, 3e5, torch.float32),
        (1e-100, 0, torch.float64),
        (1e100, 0, torch.float64),
        (1e15, 1e20, torch.float64),
    ],
)
def test_scale_and_shift_do_not_matter(scale, shift, dtype):
    z, labels = blobs()
    found = kmeans((z.double() * scale + shift).to(dtype), 7, generator=generator())
    assert adjusted_rand_score(labels, found.labels) == 1.0
    assert bool(found.centers.isfinite().all())


def test_an_empty_cluster_is_given_the_farthest_row():
    """Two seeds in one blob and none in the other two: the third center must not stay behind."""
    sample = torch.tensor([[0.0], [1.0], [10.0], [11.0], [30.0]])
    centers = torch.tensor([[[0.5], [99.0], [98.0]]], dtype=torch.float64)
    changed = solver._fill_empty(sample, centers, torch.tensor([[False, True, True]]))
    assert changed.tolist() == [True] and centers.view(-1).tolist() == [0.5, 30.0, 11.0]


def test_clusters_that_die_on_the_way_are_filled():
    """Three of these seeds lie where no row is ever near; all four clusters are in use in the end."""
    z, _ = blobs(rows=400, k=4, width=2)
    seeds = torch.cat([z[:1], z[:1] + 1e3, z[:1] + 2e3, z[:1] + 3e3]).double()[None]
    centers, _, _ = solver._lloyd(z, z, seeds, 100, 1e-4, lambda values: values)
    assert len(solver._nearest(z, centers)[0].unique()) == 4


@pytest.mark.parametrize(("k", "words"), [(0, "k: expected 1 <= k <= 20"), (-1, "k: expected"), (21, "got 21")])
def test_impossible_numbers_of_clusters(k, words):
    with pytest.raises(ValueError, match=words):
        kmeans(torch.randn(20, 3), k, generator=generator())


@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(5),
        torch.zeros(5, 2, 2),
        torch.zeros(5, 0),
        torch.zeros(0, 2),
        torch.zeros(5, 2, dtype=torch.int64),
        torch.full((5, 2), torch.nan),
        torch.tensor([[torch.inf], [0.0]]),
    ],
)
def test_unfit_rows(z):
    with pytest.raises(ValueError, match="z: expected"):
        kmeans(z, 1, generator=generator())


@pytest.mark.parametrize(
    "options", [{"n_init": 0}, {"iterations": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")}]
)
def test_unfit_options(options):
    with pytest.raises(ValueError, match="expected"):
        kmeans(torch.zeros(5, 2), 1, generator=generator(), **options)


def test_rows_are_neither_changed_nor_tracked():
    z = torch.randn(40, 3, requires_grad=True)
    before = z.detach().clone()
    assert not kmeans(z, 3, generator=generator()).centers.requires_grad
    assert torch.equal(z, before)


def test_memory_stays_far_below_rows_times_clusters():
    """20 restarts of 100 clusters on 20,000 rows: 160 MB of distances if they were all kept."""

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

    try:
        peak()
    except (OSError, StopIteration):
        pytest.skip("needs /proc/self/status of Linux")
    z = torch.randn(20_000, 4, generator=generator())
    kmeans(z[:2000], 100, generator=generator(), n_init=2, iterations=1)
    before = peak()
    kmeans(z, 100, generator=generator(), n_init=20, iterations=2)
    assert peak() - before < 140


def test_it_is_quick():
    """About 0.2 s here; ten times that leaves room for a busy machine and still catches a slow path."""
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(9298, 10)).astype(np.float32)) + blobs(9298, 10, 10)[0]
    start = time.perf_counter()
    kmeans(z, 10, generator=generator(), n_init=20)
    assert time.perf_counter() - start < 4
