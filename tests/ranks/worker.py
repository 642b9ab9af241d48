"""One of W processes: what a method finds in float64, written by rank 0. ``bench/parity.py`` compares it over W.

torchrun --nproc-per-node W worker.py METHOD,… PARAMS_JSON FIT_PARAMS_JSON GLOBAL_BATCH FOLDER

Keys of METHOD.npz: STAGE/losses/TERM and STAGE/gradients of one epoch without taking a step, STAGE/targets/NAME before it,
STAGE/centers/NAME after a pass and buffers after an epoch; and, of a whole fit with the second settings, fit/labels and fit/epochs/STAGE.
"""

import json
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits

from deepclust_accel import fitting
from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine import collectives
from deepclust_accel.engine.engine import Engine, _updates
from deepclust_accel.engine.monitor import History
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.stage import Pass

ROWS = 195  # the last global batch has three rows: fewer than four ranks


class DoubleLoader(Loader):
    def _batch(self, place, x):
        batch = super()._batch(place, x)
        return replace(batch, x=batch.x.double())


def gradients(method, stage, index, run):
    """Mean of the logged terms and all gradients of an epoch, step by step."""
    nets, found = SimpleNamespace(**method.parts()), []
    size = stage.batch_rows(run.rows, run.world_size)
    for batch in run.epoch_batches(size, index, stage.needs_equal_shards):
        run.begin_step(batch)
        for update in _updates(stage.step(nets, batch, run)):
            method.zero_grad(set_to_none=True)
            (update.loss * batch.share).backward()
            parameters = [p for name in stage.groups[update.group].parts for p in nets.__dict__[name].parameters()]
            collectives.average_gradients(parameters)
            run.log(loss=update.loss, **update.logs)
            found += [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        run.step += 1
    return run.take_log()[0], torch.cat(found)


def build(name, given, together, runtime):
    """The method with those of the settings that it has, and its loader."""
    X = (load_digits().data[:ROWS] / 16).astype(np.float32)
    sizes = {key: together // runtime.world_size for key in ("batch_size", "pretrain_batch_size")}
    known = fitting.resolve_params(name, [])[0].get_params()
    given = {k: v for k, v in {**sizes, **given}.items() if k in known}
    settings = fitting.Settings(name, 3, fitting.resolve_params(name, [("test", given)])[0], "none", 0, "cpu")
    source = ArraySource(X)
    spec = type(source.spec)(source.spec.shape, ROWS, True, (8, 8))
    return fitting.build(settings, spec).double(), DoubleLoader(source, seed=0)


def stages(name, given, together, runtime):
    """What each stage finds with the networks as they were built."""
    method, loader = build(name, given, together, runtime)
    run, results = Run(runtime, loader, 0), {}
    for index, stage in enumerate(method.plan()):
        run.reseed(index, 0)
        run.step = run.epoch = 0
        work = stage.run if isinstance(stage, Pass) else stage.before_epoch
        if work is not None:
            with torch.no_grad():
                work(run)
            kind = "centers" if isinstance(stage, Pass) else "targets"
            state = method.state_dict() if isinstance(stage, Pass) else dict(method.named_buffers())
            results |= {f"{stage.name}/{kind}/{key}": value.double().clone() for key, value in state.items()}
        if isinstance(stage, Pass):
            run.take_log()
            continue
        logged, results[f"{stage.name}/gradients"] = gradients(method, stage, index, run)
        results |= {f"{stage.name}/losses/{key}": value for key, value in logged.items()}
        state = dict(method.named_buffers())  # what steps count and follow
        results |= {f"{stage.name}/centers/{key}": value.double().clone() for key, value in state.items()}
    return results


def fit(name, given, together, runtime):
    """Labels of a whole fit, and how many epochs each stage took."""
    method, loader = build(name, given, together, runtime)
    history = History()
    Engine(runtime, seed=0, history=history).fit(method, loader)
    with torch.no_grad():
        labels = torch.cat(
            [method.assign(method.embed(batch.x)).argmax(1) for batch in loader.sequential(batch_size=512)]
        )
    epochs = Counter(record["stage"] for record in history.records)
    return {"fit/labels": labels, **{f"fit/epochs/{stage}": count for stage, count in epochs.items()}}


if __name__ == "__main__":
    names, one_epoch, whole, batch, folder = sys.argv[1:]
    processes = Runtime("cpu")
    for each in names.split(","):
        found = stages(each, json.loads(one_epoch), int(batch), processes)
        found |= fit(each, json.loads(whole), int(batch), processes)
        if processes.rank == 0:
            np.savez(f"{folder}/{each}.npz", **{key: np.asarray(value) for key, value in found.items()})
