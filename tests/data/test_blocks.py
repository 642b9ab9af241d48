"""Sources in blocks: shuffled in windows, held a window at a time, read ahead by one thread that never outlives its use."""

import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepclust_accel.data import ArraySource, Loader, fingerprint
from deepclust_accel.data import source as source_module
from deepclust_accel.data.ahead import read_ahead
from deepclust_accel.data.blocks import BlockSource, window_of
from deepclust_accel.data.loader import shuffle_of
from deepclust_accel.data.rows import draw_rows
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.stage import Group, Train
from deepclust_accel.errors import DataError

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(sum)


def blocked(counts, window=3, ahead=0):
    rows, reads = np.arange(2 * sum(counts), dtype=np.float32).reshape(-1, 2), []
    starts = np.cumsum([0, *counts])

    def read(number):
        reads.append(number)
        return rows[starts[number] : starts[number + 1]]

    source = BlockSource(counts, (2,), rows.dtype, read, window=window, name="rows")
    source.read_ahead, source.rows, source.reads = ahead, rows, reads
    return source


def epochs(loader, world_size=1, batch_size=4, epoch=0, equal_shards=False):
    """Per step, the row numbers of all ranks together."""
    asked = {"stage": 0, "epoch": epoch, "batch_size": batch_size, "equal_shards": equal_shards}
    each = [
        [b.index.tolist() * (b.share > 0) for b in loader.epoch(rank=rank, world_size=world_size, **asked)]
        for rank in range(world_size)
    ]
    return [sum(step, []) for step in zip(*each, strict=True)]


@given(COUNTS, st.integers(1, 5), st.integers(1, 7), st.integers(1, 4), st.booleans())
@settings(max_examples=100)
def test_every_row_once_and_the_same_global_batches_on_any_number_of_ranks(counts, window, batch, ranks, ahead):
    loader = Loader(blocked(counts, window, ahead), seed=1)
    together = epochs(loader, ranks, batch)
    assert sorted(sum(together, [])) == list(range(sum(counts)))
    assert together == epochs(loader, 1, batch * ranks)
    again = Loader(blocked(counts, window), seed=1)
    assert together == epochs(again, ranks, batch)  # as after a resume
    if sum(counts) >= ranks:
        equal = epochs(loader, ranks, batch, equal_shards=True)
        assert len({len(step) for step in equal}) == 1


@pytest.mark.parametrize("blocks", [3, 4, 5, 6, 7, 9])  # around one and two windows of 3
def test_a_window_is_filled_from_blocks_all_over_the_data(blocks):
    source = blocked([5] * blocks)
    order = np.concatenate(epochs(Loader(source, seed=0), batch_size=15))
    if blocks == 3:
        assert source.blocks is None and shuffle_of(source) == "all rows"
        assert (
            order.tolist() == np.concatenate(epochs(Loader(ArraySource(source.rows), seed=0), batch_size=15)).tolist()
        )
        return
    for first in range(0, blocks * 5, 15):
        window = order[first : first + 15]
        owners, counts = np.unique(window // 5, return_counts=True)
        assert len(owners) == len(window) // 5 and set(counts) == {5}  # whole blocks
        changes = int((np.diff(window // 5) != 0).sum())
        assert window.tolist() != sorted(window) and (changes > len(owners) - 1 or len(owners) == 1)  # mixed
    assert shuffle_of(source) == f"windows of 3 of {blocks} blocks drawn at random, about 15 of {blocks * 5} rows"


def test_epochs_differ_and_blocks_come_in_another_order_each_time():
    loader = Loader(blocked([2] * 40), seed=0)
    orders = [tuple(np.concatenate(epochs(loader, epoch=e)) // 2) for e in range(5)]
    assert len(set(orders)) == 5


@given(COUNTS, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_take_gives_the_rows_asked_for_and_reads_a_block_once(counts, window, seed):
    source = blocked(counts, window)
    generator = np.random.default_rng(seed)
    for _ in range(3):
        index = generator.integers(0, sum(counts), 12)
        before, held = len(source.reads), set(source._held)
        np.testing.assert_array_equal(source.take(index).numpy(), source.rows[index])
        needed = {int(np.searchsorted(np.cumsum(counts), i, side="right")) for i in index}
        assert sorted(source.reads[before:]) == sorted(needed - held)
        assert len(source._held) <= window


@pytest.mark.parametrize("wrong", [[-1], [0, 6], [7]])
def test_rows_that_are_not_there_are_refused(wrong):
    with pytest.raises(IndexError, match="0 to 5"):
        blocked([2, 0, 4]).take(np.array(wrong))


def test_an_epoch_reads_every_block_once():
    source = blocked([6] * 12)
    list(Loader(source, seed=0).epoch(stage=0, epoch=0, batch_size=5))
    assert sorted(source.reads) == list(range(12))
    list(Loader(source, seed=0).sequential(batch_size=5))
    assert len(source.reads) <= 24


def test_window_is_bounded_by_memory_and_never_one_block():
    assert window_of(1 << 20) == 256 and window_of(1 << 28) == window_of(1 << 40) == 2


def test_fingerprint_of_large_data_in_blocks_reads_a_few_of_them():
    counts = [1 << 10] * 100
    rows = np.ones((sum(counts), 1024), np.uint8)  # 100 MiB

    def source(changed=()):
        reads = []

        def read(number):
            reads.append(number)
            return rows[:1024] * 2 if number in changed else rows[:1024]

        made = BlockSource(counts, (1024,), rows.dtype, read, window=2, name="rows")
        made.reads = reads
        return made

    one = source()
    assert fingerprint(one) == fingerprint(source()) and {0, 99} <= set(one.reads) and len(one.reads) <= 17
    assert fingerprint(source(changed=(99,))) != fingerprint(one)


def threads():
    return [t for t in threading.enumerate() if t.name == "read ahead"]


def test_read_ahead_draws_in_advance_but_not_without_bound():
    drawn, ready = [], threading.Event()

    def items():
        for i in range(50):
            drawn.append(i)
            if i == 4:
                ready.set()
            yield i

    with closing(read_ahead(items(), 4)) as ahead:
        assert next(ahead) == 0
        assert ready.wait(5)
        assert list(ahead) == list(range(1, 50))
        assert drawn == list(range(50))
    with closing(read_ahead(iter(range(50)), 3)) as ahead:
        next(ahead)
    assert not threads()


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_items_drawn_are_at_most_depth_ahead(depth):
    drawn = []
    with closing(read_ahead(((drawn.append(i), i)[1] for i in range(100)), depth)) as ahead:
        for used in ahead:
            assert len(drawn) <= used + depth + 2


def test_an_error_arrives_after_the_batches_before_it_and_the_thread_is_gone():
    source = blocked([4] * 5, window=1, ahead=100)
    read = source._read
    source._read = lambda number: (
        read(number) if number < 3 else (_ for _ in ()).throw(DataError("3: expected rows, got none; x"))
    )
    batches, seen = Loader(source, seed=0).sequential(batch_size=4), []
    with pytest.raises(DataError, match="3: expected rows"):
        for batch in batches:
            seen += batch.index.tolist()
    assert seen == list(range(12)) and not threads()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_no_thread_is_left_when_the_use_of_a_batch_is_interrupted(stop):
    loader = Loader(blocked([4] * 50, window=2, ahead=8), seed=0)
    with pytest.raises(stop), closing(loader.epoch(stage=0, epoch=0, batch_size=4)) as batches:
        for batch in batches:
            if 7 in batch.index:
                assert threads()
                raise stop
    assert not threads()


class Interrupted(nn.Module):
    """A user who presses Ctrl-C in the middle of the fifth step."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def parts(self):
        return {"layer": self.layer}

    def plan(self):
        return [Train("train", self.step, {"main": Group(("layer",), 1e-3)}, 3, batch_size=4)]

    def step(self, nets, batch, run):
        if run.step == 4:
            assert threads()
            raise KeyboardInterrupt
        return nets.layer(batch.x).square().mean()


def test_no_thread_is_left_when_training_is_interrupted():
    loader = Loader(blocked([4] * 50, window=2, ahead=8), seed=0)
    with pytest.raises(KeyboardInterrupt) as caught:
        Engine(Runtime("cpu"), seed=0).fit(Interrupted(), loader)
    assert not threads(), caught  # while the traceback still holds the frames


def test_batches_are_the_same_with_and_without_a_thread():
    for one, other in zip(
        *(Loader(blocked([3] * 9, ahead=a), seed=2).epoch(stage=0, epoch=1, batch_size=4) for a in (0, 5)), strict=True
    ):
        assert one.x.equal(other.x) and one.index.equal(other.index)


def test_two_iterations_at_once_share_a_source():
    source = blocked([5] * 20, window=2, ahead=10)
    loader = Loader(source, seed=0)
    for batch in loader.epoch(stage=0, epoch=0, batch_size=10):
        seen = torch.cat([b.x for b in loader.sequential(batch_size=7)])
        np.testing.assert_array_equal(seen.numpy(), source.rows)
        np.testing.assert_array_equal(batch.x.numpy(), source.rows[batch.index.numpy()])


def test_a_large_memory_map_is_mixed_in_blocks(tmp_path, monkeypatch):
    """Every row once, and a batch of rows from the blocks of one window."""
    monkeypatch.setattr(source_module, "_MIXED_BYTES", 7000)
    monkeypatch.setattr(source_module, "_BLOCK_BYTES", 80)
    monkeypatch.setattr(source_module, "_WINDOW_BYTES", 800)
    values = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    np.save(tmp_path / "x.npy", values)
    source = ArraySource(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert source.blocks.window == 10 and np.diff(source.blocks.starts).max() == 10
    batches = [b.index.numpy() for b in Loader(source, seed=0).epoch(stage=0, epoch=0, batch_size=100)]
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(1000))
    assert all(len(np.unique(rows // 10)) == 10 for rows in batches) and not np.array_equal(
        batches[0], np.sort(batches[0])
    )
    assert ArraySource(np.load(tmp_path / "x.npy")).blocks is None
    sample = Loader(source, seed=0).sample(100, 3).index.numpy()
    assert len(np.unique(sample)) == 100 and len(np.unique(sample // 10)) <= 16
    for count in (1, 160, 161, 1000, 2000):
        drawn = draw_rows(source, count, 0)
        assert len(drawn) == min(count, 1000) and (np.diff(drawn) > 0).all()
        assert len(np.unique(drawn // 10)) <= max(16, -(-count // 10))
