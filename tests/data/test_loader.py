"""The loader shows every row once, in an order fixed by seed, stage and epoch, however many ranks share it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepclust_accel.data import ArraySource, DataSpec, Loader, Scaling
from deepclust_accel.errors import ArgumentError, DataError

ROWS = st.integers(1, 60)
SIZES = st.integers(1, 25)
RANKS = st.integers(1, 5)
KEYS = st.tuples(st.integers(0, 3), st.integers(0, 1000))


def loader_of(rows, seed=0):
    return Loader(ArraySource(np.arange(rows * 2).reshape(rows, 2)), seed=seed, scaling=Scaling())


def numbers(batches):
    """Row numbers of each batch; none where the rank only stands in."""
    return [batch.index.tolist() if batch.share else [] for batch in batches]


def epoch_of(loader, key, batch_size, world_size, equal_shards=False):
    """Per rank, per step, the row numbers."""
    return [
        numbers(
            loader.epoch(
                stage=key[0],
                epoch=key[1],
                batch_size=batch_size,
                rank=rank,
                world_size=world_size,
                equal_shards=equal_shards,
            )
        )
        for rank in range(world_size)
    ]


@given(ROWS, SIZES, RANKS, KEYS)
@settings(max_examples=80, deadline=None)
def test_every_row_exactly_once_and_as_many_steps_on_every_rank(rows, batch_size, world_size, key):
    loader = loader_of(rows)
    ranks = epoch_of(loader, key, batch_size, world_size)
    assert {len(steps) for steps in ranks} == {loader.steps(batch_size, world_size)}
    assert sorted(i for steps in ranks for step in steps for i in step) == list(range(rows))
    assert all(len(step) <= batch_size for steps in ranks for step in steps)
    for step in zip(*ranks, strict=True):
        sizes = [len(part) for part in step]
        assert max(sizes) - min(sizes) <= 1


@given(ROWS, SIZES, RANKS, KEYS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_ranks_together_see_the_global_batches_of_one_process(rows, batch_size, world_size, key, equal_shards):
    if equal_shards and rows < batch_size * world_size:
        return  # then the rest that W ranks cannot share evenly is dropped; see below
    loader = loader_of(rows)
    ranks = epoch_of(loader, key, batch_size, world_size, equal_shards)
    (alone,) = epoch_of(loader, key, batch_size * world_size, 1, equal_shards)
    assert [[i for part in step for i in part] for step in zip(*ranks, strict=True)] == alone


@given(ROWS, SIZES, RANKS, KEYS)
@settings(max_examples=80, deadline=None)
def test_equal_shards_are_equal_in_every_step(rows, batch_size, world_size, key):
    loader = loader_of(rows)
    if rows < world_size:
        with pytest.raises(DataError, match="at least one row for each"):
            loader.steps(batch_size, world_size, equal_shards=True)
        return
    ranks = epoch_of(loader, key, batch_size, world_size, equal_shards=True)
    expected = min(batch_size, rows // world_size)
    assert {len(step) for steps in ranks for step in steps} == {expected}
    assert {len(steps) for steps in ranks} == {loader.steps(batch_size, world_size, equal_shards=True)}
    seen = [i for steps in ranks for step in steps for i in step]
    assert len(seen) == len(set(seen)) == max(1, rows // (batch_size * world_size)) * expected * world_size


@given(ROWS, SIZES, RANKS)
@settings(max_examples=80, deadline=None)
def test_sequential_is_contiguous_exact_and_in_order(rows, batch_size, world_size):
    loader = loader_of(rows)
    ranks = [
        numbers(loader.sequential(batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [i for steps in ranks for step in steps for i in step] == list(range(rows))
    assert all(1 <= len(step) <= batch_size for steps in ranks for step in steps)
    counts = [sum(map(len, steps)) for steps in ranks]
    assert max(counts) - min(counts) <= 1


def test_order_depends_on_seed_stage_and_epoch_alone():
    loader = loader_of(50)
    first = epoch_of(loader, (0, 0), 8, 1)
    list(loader.epoch(stage=2, epoch=5, batch_size=3))  # what was asked before does not matter
    list(loader.sequential(batch_size=7))
    np.random.seed(1)
    torch.manual_seed(1)
    assert epoch_of(loader, (0, 0), 8, 1) == first == epoch_of(loader_of(50), (0, 0), 8, 1)
    orders = [
        str(epoch_of(loader_of(50, seed), (stage, epoch), 50, 1))
        for seed in (0, 1, 2**62)
        for stage in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == len(orders)


def test_an_abandoned_epoch_can_run_beside_another():
    loader = loader_of(20)
    one, other = (loader.epoch(stage=0, epoch=0, batch_size=4) for _ in range(2))
    for _ in range(3):
        assert torch.equal(next(one).index, next(other).index)


def test_orders_are_fair():
    """Over many epochs each row comes first about equally often (chi-square, 9 degrees of freedom)."""
    loader = loader_of(10)
    first = [epoch_of(loader, (0, epoch), 1, 1)[0][0][0] for epoch in range(2000)]
    counts = np.bincount(first, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7  # p = 0.0001


def test_global_random_state_is_left_alone():
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    list(loader_of(20).epoch(stage=0, epoch=0, batch_size=4))
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_rows_match_their_numbers_and_are_scaled(device):
    array = np.random.default_rng(0).integers(0, 256, (30, 4, 5)).astype(np.uint8)
    source = ArraySource(array)
    loader = Loader(source, seed=3, scaling=Scaling.fit("unit", source), device=device)
    for batches in (loader.epoch(stage=0, epoch=0, batch_size=7), loader.sequential(batch_size=7)):
        for batch in batches:
            assert batch.x.dtype == torch.float32 and batch.index.dtype == torch.int64
            assert batch.x.device.type == batch.index.device.type == device
            low, high = array.min(), array.max()
            expected = (array[batch.index.cpu().numpy()].astype(np.float64) - low) / (high - low)
            np.testing.assert_allclose(batch.x.cpu().numpy(), expected, atol=1e-7)


def test_a_batch_can_be_changed_without_harm():
    array = np.ones((4, 2), np.float32)
    loader = Loader(ArraySource(array), seed=0, scaling=Scaling())
    for batch in loader.epoch(stage=0, epoch=0, batch_size=4):
        batch.x.zero_()
        batch.index.zero_()
    assert array.sum() == 8 and sorted(numbers(loader.epoch(stage=0, epoch=0, batch_size=4))[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"batch_size": 2, "world_size": 0},
        {"batch_size": 2, "rank": 1},
        {"batch_size": 2, "rank": -1},
    ],
)
def test_refuses_numbers_out_of_range_at_the_call(arguments):
    with pytest.raises(ArgumentError, match="expected"):
        loader_of(4).epoch(stage=0, epoch=0, **arguments)
    with pytest.raises(ArgumentError, match="expected"):
        loader_of(4).sequential(**arguments)


def test_refuses_a_negative_seed_streams_and_other_columns():
    with pytest.raises(ArgumentError, match="seed"):
        loader_of(4, seed=-1)
    source = ArraySource(np.zeros((3, 2)))
    fitted = Scaling.fit("standard", ArraySource(np.zeros((3, 5))))
    with pytest.raises(DataError, match="shape"):
        Loader(source, seed=0, scaling=fitted)
    source.spec = DataSpec((2,), None)
    with pytest.raises(DataError, match="stream"):
        Loader(source, seed=0, scaling=Scaling())


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_part_is_known_without_reading_rows(world_size):
    for rank in range(world_size):
        read = [
            i for batch in loader_of(10).sequential(batch_size=3, rank=rank, world_size=world_size) for i in batch.index
        ]
        assert list(range(*loader_of(10).part(rank, world_size))) == read


@given(ROWS, SIZES, RANKS, KEYS)
@settings(max_examples=80, deadline=None)
def test_shares_make_the_mean_over_ranks_the_mean_over_rows(rows, batch_size, world_size, key):
    loader = loader_of(rows)
    options = {"stage": key[0], "epoch": key[1], "batch_size": batch_size, "world_size": world_size}
    for together in zip(*(loader.epoch(rank=rank, **options) for rank in range(world_size)), strict=True):
        assert all(len(batch.index) >= 1 for batch in together)
        values = np.concatenate([batch.index.numpy() for batch in together if batch.share])
        mean = sum(float(batch.index.double().mean()) * batch.share for batch in together) / world_size
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert {batch.total for batch in together} == {len(values)}
        for batch in together:
            if batch.share:
                assert values[batch.first : batch.first + len(batch.index)].tolist() == batch.index.tolist()
