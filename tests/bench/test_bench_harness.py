"""Who runs when, how often, and what is made of the samples."""

import contextlib
import gc

import numpy as np
import pytest
import torch

from deepclust_accel.bench.harness import Runner, gradient_step, interleave, matmul_step, order, quartiles, ratios


def runner(name, *, log=None, stride=1, seconds=(0.5, 0.25), inner=1):
    def step():
        if log is not None:
            log.append(name)
        return seconds

    return Runner(name, step, stride=stride, inner=inner)


def test_everyone_runs_once_per_round_in_an_order_that_rotates():
    log = []
    runners = [runner(name, log=log) for name in "ABC"]
    interleave(runners, 4)
    assert "".join(log) == "ABCBCACABABC"
    assert all(list(r.samples) == [0, 1, 2, 3] for r in runners)


def test_slow_ones_skip_rounds_and_meet_in_the_same_ones():
    log = []
    fast, slow, slower = runners = [runner(n, log=log, stride=s) for n, s in (("A", 1), ("B", 2), ("C", 4))]
    interleave(runners, 8)
    assert (list(fast.samples), list(slow.samples), list(slower.samples)) == ([*range(8)], [0, 2, 4, 6], [0, 4])
    assert set(slower.samples) <= set(slow.samples) <= set(fast.samples)
    assert {r.name for r in order(runners, 2)} == {"A", "B"}
    assert order([], 3) == []


def test_a_sample_is_the_mean_of_its_steps_after_one_untimed():
    steps = iter([(100.0, 100.0), (1.0, 10.0), (3.0, 20.0)])
    assert Runner("A", lambda: next(steps), inner=2).sample() == (2.0, 15.0)
    steps = iter([(7.0, 8.0)])
    assert Runner("A", lambda: next(steps)).sample() == (7.0, 8.0)


@pytest.mark.parametrize(
    ("seconds", "rounds", "inner", "stride"),
    [
        ((0.001, 0.002), 15, 5, 1),  # the shorter part decides
        ((0.0, 0.0), 15, 10_000, 1),
        ((2.0, 2.9), 15, 1, 1),
        ((2.0, 4.0), 15, 1, 2),
        ((10.0, 9.0), 15, 1, 4),
        ((900.0, 1.0), 15, 1, 4),  # 4 samples are left
        ((900.0, 1.0), 5, 1, 2),  # 3 samples are left
        ((900.0, 1.0), 3, 1, 1),
    ],
)
def test_calibration(seconds, rounds, inner, stride):
    r = runner("A", seconds=seconds)
    assert r.calibrate(0.005, rounds, slow_s=5.0) == sum(seconds)
    assert (r.inner, r.stride) == (inner, stride)
    assert len(range(0, rounds, r.stride)) >= 3


def test_the_context_holds_during_steps_and_nowhere_else():
    inside = []

    @contextlib.contextmanager
    def context():
        inside.append("in")
        yield
        inside.append("out")

    r = Runner("A", lambda: inside.append("step") or (1.0,), context=context)
    r.sample()
    r.calibrate(0.005, 3)
    assert inside == ["in", "step", "out"] * 2


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before_even_after_an_error(enabled):
    def broken():
        assert not gc.isenabled()
        raise RuntimeError("broken")

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            interleave([Runner("A", broken)], 1)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 15, 16])
def test_quartiles_are_those_of_numpy(count):
    values = np.random.default_rng(count).exponential(size=count).tolist()
    assert quartiles(values) == pytest.approx([np.percentile(values, p) for p in (25, 50, 75)], rel=1e-15)
    assert quartiles(values)[1] == pytest.approx(np.median(values), rel=1e-15)


def test_ratios_pair_the_rounds_both_took_part_in():
    assert ratios({0: 6.0, 2: 9.0, 4: 8.0}, {0: 2.0, 1: 7.0, 4: 16.0}) == [3.0, 0.5]
    assert ratios({0: 1.0}, {1: 1.0}) == []


def test_steps_time_both_parts():
    x = torch.ones(3, requires_grad=True)
    calls = []
    step = gradient_step(lambda a: calls.append(1) or (a * a).sum(), (x,))
    assert len(step()) == 2
    assert min(step()) > 0
    assert len(calls) == 2 and x.grad.tolist() == [2.0, 2.0, 2.0]  # of the last step alone, not added up
    assert len(matmul_step(8)()) == 1
