"""What a training step spends its time on: dvae's joint step and both of dcfae's; one JSON to stdout.

    python bench/step_profile.py [--threads 1] [--steps 6] > bench/results/step_profile.json

The engine runs an epoch of `steps` steps on rows in memory under torch's profiler (the paper's networks; batches of 256, of
images of 28 x 28 for dcfae 64). Every operator's own time is put into one class:

    products    convolutions and matrix products, residual blocks, losses over all pairs, forward and backward
    passes      everything that reads and writes a batch or a feature map besides: activations, sums, casts, copies, noise
    optimizer   the fused update
    rows        choosing and gathering the rows of a batch
    reads       values that are read back by the host (item), which on a device would wait for it

`outside` is what no operator accounts for: the engine, Python, autograd's bookkeeping. `passes` are listed by operator with
calls a step, so that one that could be left out shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from deepclust_accel import fitting
from deepclust_accel.data import ArraySource, DataSpec, Loader
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.runtime import Runtime

CLASSES = {
    "products": ("conv", "mm", "linear", "residual", "similarity", "mkldnn", "bmm", "dot", "PairLoss"),
    "optimizer": ("_fused_adam", "Optimizer.step"),
    "rows": ("index_select", "aten::index", "randperm"),
    "reads": ("aten::item", "_local_scalar_dense"),
}
JOBS = {
    "dvae": ("dvae", "joint", {"warmup_epochs": 0}, 256),
    "dcfae, first stage": ("dcfae", "pretrain", {}, 64),
    "dcfae, second stage": ("dcfae", "joint", {}, 64),
}


def class_of(name: str) -> str:
    return next((kind for kind, signs in CLASSES.items() if any(sign in name for sign in signs)), "passes")


def measured(method: str, stage: str, settings: dict, batch: int, steps: int) -> dict:
    """Shares of an epoch of one stage, and its passes by operator."""
    x = np.random.default_rng(0).random((steps * batch, 28, 28), dtype=np.float32)
    wanted = {"batch_size": batch, "epochs": 1, "pretrain_epochs": 1, **settings}
    params, _ = fitting.resolve_params(method, [("bench", wanted)])
    spec = DataSpec((28, 28), len(x), unit_range=True, image_shape=(28, 28))
    network = fitting.build(fitting.Settings(method, 10, params), spec)
    (only,) = (each for each in network.plan() if each.name == stage)
    network.plan = lambda: [only]
    loader = Loader(ArraySource(x), seed=0)
    Engine(Runtime("cpu"), seed=0).fit(network, loader)  # first calls choose kernels and take memory
    begin = time.perf_counter()
    Engine(Runtime("cpu"), seed=0).fit(network, loader)
    alone = time.perf_counter() - begin
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        begin = time.perf_counter()
        Engine(Runtime("cpu"), seed=0).fit(network, loader)
        whole = (time.perf_counter() - begin) * 1e6
    spent, passes = dict.fromkeys((*CLASSES, "passes"), 0.0), []
    for event in seen.key_averages():
        kind = class_of(event.key)
        spent[kind] += event.self_cpu_time_total / whole
        if kind == "passes" and event.self_cpu_time_total > 0.002 * whole:
            passes.append(
                {"operator": event.key, "share": event.self_cpu_time_total / whole, "calls_a_step": event.count / steps}
            )
    reads = sum(event.count for event in seen.key_averages() if event.key == "aten::item") / steps
    shares = {**spent, "outside": 1 - sum(spent.values())}
    passes.sort(key=lambda each: -each["share"])
    rounded = [{**each, "share": round(each["share"], 4)} for each in passes]
    return {
        "batch": batch,
        "seconds_a_step": round(alone / steps, 4),
        "shares": {name: round(share, 4) for name, share in shares.items()},
        "reads_a_step": round(reads, 2),
        "passes": rounded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {}
    for name in options.jobs:
        found[name] = measured(*JOBS[name], options.steps)
        print(name, found[name]["shares"], file=sys.stderr)
    json.dump({"threads": options.threads, "torch": torch.__version__, "jobs": found}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
