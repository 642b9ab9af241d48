"""Interleaved timing: every contestant once per round, in an order that rotates, so that drift hits all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deepclust_accel.bench.case import Call, Inputs

SLOW_S = 5.0  # a provider whose single run takes longer is timed in fewer rounds
_QUICK_S = 0.2  # below this one run says little, and three cost nothing
_MOST_INNER = 10_000

Step = Callable[[], tuple[float, ...]]


@dataclass
class Runner:
    """A contestant and its samples.

    Args:
        name: of the contestant.
        step: does the work once and returns the seconds of each part.
        context: holds while it runs.
        inner: steps per sample.
        stride: takes part in every ``stride``-th round, a power of two so that slow contestants meet in the same ones.
        samples: round -> seconds per step of each part.
    """

    name: str
    step: Step
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    inner: int = 1
    stride: int = 1
    samples: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def sample(self) -> tuple[float, ...]:
        """Mean seconds of each part over ``inner`` steps."""
        with self.context():
            if self.inner > 1:
                self.step()  # untimed: the one before has left its own data in the caches
            steps = [self.step() for _ in range(self.inner)]
        return tuple(sum(part) / self.inner for part in zip(*steps, strict=True))

    def calibrate(self, shortest_s: float, rounds: int, slow_s: float = SLOW_S) -> float:
        """Choose ``inner`` and ``stride``; return the seconds of one step.

        ``inner`` makes the shortest part of a sample last ``shortest_s``. A step above ``slow_s`` thins the rounds to
        what ``rounds`` steps of ``slow_s`` would cost, but leaves three.
        """
        with self.context():
            best = self.step()
            if sum(best) < _QUICK_S:
                best = min(best, self.step(), self.step(), key=sum)
        self.inner = min(_MOST_INNER, max(1, math.ceil(shortest_s / max(min(best), 1e-9))))
        self.stride = 1
        while self.stride * slow_s < sum(best) and rounds > 2 * 2 * self.stride:
            self.stride *= 2
        return sum(best)


def gradient_step(call: Call, inputs: Inputs, upstream: Tensor | None = None) -> Step:
    """A step in two parts, forward and backward, of one training iteration; ``upstream`` unless the value is a scalar.

    Both are taken from the same iteration: a backward needs its own forward, and torch.compile frees what it kept.
    """

    def step() -> tuple[float, float]:
        for x in inputs:
            x.grad = None
        start = time.perf_counter()
        value = call(*inputs)
        middle = time.perf_counter()
        value.backward(upstream)
        return middle - start, time.perf_counter() - middle

    return step


def matmul_step(size: int) -> Step:
    """A step that multiplies two float32 matrices of ``size`` x ``size``: the yardstick of arithmetic."""
    g = torch.Generator().manual_seed(size)
    a, b = torch.randn(size, size, generator=g), torch.randn(size, size, generator=g)
    out = torch.empty(size, size)

    def step() -> tuple[float]:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        return (time.perf_counter() - start,)

    return step


def order(runners: Sequence[Runner], number: int) -> list[Runner]:
    """Who runs in a round, first to last: those whose turn it is, rotated by the number of the round."""
    present = [runner for runner in runners if number % runner.stride == 0]
    shift = number % len(present) if present else 0
    return present[shift:] + present[:shift]


def interleave(runners: Sequence[Runner], rounds: int) -> None:
    """Take one sample of everyone in every round. Garbage is collected between rounds, not inside a sample."""
    collects = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            gc.collect()
            for runner in order(runners, number):
                runner.samples[number] = runner.sample()
    finally:
        if collects:
            gc.enable()


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, interpolated linearly."""
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def ratios(above: dict[int, float], below: dict[int, float]) -> list[float]:
    """Round by round quotients, over the rounds in which both took part."""
    return [above[number] / below[number] for number in sorted(above.keys() & below.keys())]
