"""A run that stands still, and a method built on a few rows: what one step of a method is tested with."""

from types import SimpleNamespace

import torch

from deepclust_accel.data import DataSpec
from deepclust_accel.engine.seeding import isolated


class Window:
    """Fixed epoch, step and noise; one batch holds all rows; remembers what is logged."""

    def __init__(self, rows, epoch=0, step=0, steps_per_epoch=1):
        self.epoch, self.step, self.steps_per_epoch = epoch, step, steps_per_epoch
        self.world_size, self.device, self.x, self.rows = 1, torch.device("cpu"), rows, len(rows)
        self.generator, self.shared_generator = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        self.logged = {}

    def log(self, **values):
        self.logged |= {name: float(torch.as_tensor(value).detach()) for name, value in values.items()}

    def collect(self, function):
        with torch.no_grad():
            return function(self.x)

    def per_row(self, draw, axis=0):
        return draw(self.generator, len(self.x))

    def mean_rows(self, values):
        return values.mean(0)

    def over_ranks(self, loss):
        return loss

    def row_numbers(self):
        return torch.arange(len(self.x))

    def sum_ranks(self, values):
        return values


def build(cls, k=3, rows=40, shape=(12,), unit_range=True, **settings):
    with isolated(0):
        return cls(cls.Params(**settings), k, DataSpec(tuple(shape), rows, unit_range))


def some_rows(rows=40, shape=(12,), seed=0):
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(seed))


def one_step(method, step, x, run=None):
    """Loss and logged terms of a step on rows x that returns a loss."""
    run = run or Window(x)
    loss = step(SimpleNamespace(**method.parts()), _batch(x), run)
    return loss, run.logged


def _batch(x):
    return SimpleNamespace(x=x, index=torch.arange(len(x)), total=len(x), share=1.0)


def updates(method, step, x, run=None):
    """The updates a generator step yields, none of them applied, and logged terms."""
    run = run or Window(x)
    found = []
    for update in step(SimpleNamespace(**method.parts()), _batch(x), run):
        found.append(update)
        run.log(**update.logs)
    return found, run.logged


def stage(method, name):
    return next(s for s in method.plan() if s.name == name)
