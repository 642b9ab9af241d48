"""One of W processes: gradients of every stage of a method in float64, without taking a step; rank 0 writes them.

torchrun --nproc-per-node W worker.py METHOD,… PARAMS_JSON GLOBAL_BATCH FOLDER
"""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits

from deepclust_accel import fitting
from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine import collectives
from deepclust_accel.engine.engine import _updates
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
    if stage.before_epoch is not None:
        with torch.no_grad():
            stage.before_epoch(run)
    nets, found = SimpleNamespace(**method.parts()), []
    for batch in run.epoch_batches(stage.batch_size, index, stage.needs_equal_shards):
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


def main(name, params, together, out, runtime):
    X = (load_digits().data[:ROWS] / 16).astype(np.float32)
    sizes = {key: together // runtime.world_size for key in ("batch_size", "pretrain_batch_size")}
    known = fitting.resolve_params(name, [])[0].get_params()
    given = {k: v for k, v in {**sizes, **params}.items() if k in known}
    settings = fitting.Settings(name, 3, fitting.resolve_params(name, [("test", given)])[0], "none", 0, "cpu")
    source = ArraySource(X)
    spec = type(source.spec)(source.spec.shape, ROWS, True, (8, 8))
    method = fitting.build(settings, spec).double()
    run = Run(runtime, DoubleLoader(source, seed=0), 0)
    results = {}
    for index, stage in enumerate(method.plan()):
        run.reseed(index, 0)
        run.step = run.epoch = 0
        if isinstance(stage, Pass):
            with torch.no_grad():
                stage.run(run)
            run.take_log()
        else:
            logged, results[f"{stage.name}/gradients"] = gradients(method, stage, index, run)
            results |= {f"{stage.name}/log/{key}": value for key, value in logged.items()}
        for key, value in method.named_buffers():
            results[f"{stage.name}/{key}"] = value.double().clone()
    if runtime.rank == 0:
        np.savez(out, **{key: np.asarray(value) for key, value in results.items()})


if __name__ == "__main__":
    names, settings, batch, folder = sys.argv[1:]
    processes = Runtime("cpu")
    for each in names.split(","):
        main(each, json.loads(settings), int(batch), f"{folder}/{each}.npz", processes)
