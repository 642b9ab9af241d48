"""What the engine adds to a step, and the share of a step of dvae that is its networks and losses; one JSON to stdout.

    python bench/engine_overhead.py [--rounds 9] [--threads 1] > overhead.json

The first: a network of one parameter, trained by the engine and by a bare PyTorch loop with the same optimizer on the same
batches (256 of 51,200 rows in memory, shuffled, a loss logged each step), in turns; microseconds a step, and the median of
the rounds' differences. The second: joint training of dvae (500-500-2000-10, batches of 256 of 4,096 rows of 784 values),
in which forward, backward and optimizer are timed within the engine's own steps; the rest is the engine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from torch import nn

from deepclust_accel import fitting
from deepclust_accel.data import ArraySource, DataSpec, Loader
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.stage import Group, Train

BATCH = 256
ONE = torch.ones(1, 1)


class Nothing(nn.Module):
    """A method whose step costs as little as a step can."""

    def __init__(self, epochs: int):
        super().__init__()
        self.part, self.epochs = nn.Linear(1, 1, bias=False), epochs

    def parts(self) -> dict[str, nn.Module]:
        return {"part": self.part}

    def plan(self) -> list[Train]:
        return [Train("train", self.step, {"main": Group(("part",))}, self.epochs, BATCH)]

    def step(self, nets, batch, run) -> torch.Tensor:
        return nets.part(ONE).sum()


def by_engine(x: np.ndarray, epochs: int) -> float:
    """Seconds of all epochs."""
    engine, method = Engine(Runtime("cpu"), seed=0), Nothing(epochs)
    return engine.fit(method, Loader(ArraySource(x), seed=0))["train"]


def bare(x: np.ndarray, epochs: int) -> float:
    """The same by hand."""
    part = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-3, fused=True)
    begin = time.perf_counter()
    for epoch in range(epochs):
        order, losses = np.random.default_rng(epoch).permutation(len(x)), []
        for first in range(0, len(x), BATCH):
            torch.from_numpy(x[order[first : first + BATCH]])
            loss = part(ONE).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        sum(losses)
    return time.perf_counter() - begin


class Clock:
    """Adds up the seconds of the functions it wraps."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function):
        def timed(*arguments):
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

        return timed


def shares(epochs: int) -> dict[str, float]:
    """Part of the time of joint training of dvae that each piece takes."""
    x = np.random.default_rng(0).random((4096, 784), dtype=np.float32)
    wanted = {"batch_size": BATCH, "epochs": epochs, "warmup_epochs": 0}
    params, _ = fitting.resolve_params("dvae", [("bench", wanted)])
    method = fitting.build(fitting.Settings("dvae", 10, params), DataSpec((784,), len(x), unit_range=True))
    clock, runtime = Clock(), Runtime("cpu")
    (joint,) = (stage for stage in method.plan() if stage.name == "joint")
    stage = Train("joint", clock.around("forward", joint.step), joint.groups, epochs, BATCH, needs_equal_shards=True)
    method.plan = lambda: [stage]
    runtime.backward = clock.around("backward", runtime.backward)
    make = runtime.optimizer

    def optimizer(group, parts):
        made = make(group, parts)
        made.step = clock.around("optimizer", made.step)
        return made

    runtime.optimizer = optimizer
    seconds = Engine(runtime, seed=0).fit(method, Loader(ArraySource(x), seed=0))["joint"]
    parts = {name: spent / seconds for name, spent in clock.seconds.items()}
    return {**parts, "engine": 1 - sum(parts.values()), "step_us": seconds / (epochs * len(x) // BATCH) * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, epochs = np.random.default_rng(0).random((200 * BATCH, 64), dtype=np.float32), 5
    bare(x, 1), by_engine(x, 1)
    rounds = [(by_engine(x, epochs), bare(x, epochs)) for _ in range(options.rounds)]
    steps = epochs * len(x) // BATCH
    record = {
        "engine_us": statistics.median(ours for ours, _ in rounds) / steps * 1e6,
        "bare_us": statistics.median(theirs for _, theirs in rounds) / steps * 1e6,
        "overhead_us": statistics.median(ours - theirs for ours, theirs in rounds) / steps * 1e6,
        "dvae_shares": shares(4),
        "threads": options.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
