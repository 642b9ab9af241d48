"""The forecast of a fit: its steps are those of the fit, memory follows the batch, and nothing is written."""

import sys
from collections import Counter

import numpy as np
import pytest

from deepclust_accel import fitting, forecast
from deepclust_accel.config import from_mapping
from deepclust_accel.data import ArraySource
from deepclust_accel.engine import memory
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.methods import registry
from deepclust_accel.methods.dcfae import Dcfae

X = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
SMALL = {"hidden": (16,), "pretrain_epochs": 2, "epochs": 3}


def settings(method="dvae", k=3, **params):
    cls = registry.load(method).Params
    small = {name: value for name, value in SMALL.items() if hasattr(cls, name)}
    return fitting.Settings(method, k, from_mapping(cls, small | params), device="cpu")


class Count(Watcher):
    def __init__(self):
        self.steps = {}

    def begin_stage(self, number, total, name, epochs, steps, done):
        self.name, self.steps[name] = name, 0

    def step(self):
        self.steps[self.name] += 1


@pytest.mark.parametrize("few", [32, 8192], ids=["on parts of the rows", "on all rows"])
def test_steps_are_those_of_the_fit(monkeypatch, few):
    monkeypatch.setattr(forecast, "FEW", few)
    asked = settings(warmup_epochs=1, classifier_steps=30, n_init=2, batch_size=32, pretrain_batch_size=50)
    source, count = ArraySource(X), Count()
    found = forecast.forecast(asked, source)
    fitting.fit(asked, source, watcher=count)
    assert {s.name: s.steps for s in found.stages[1:-1]} == count.steps
    assert [s.name for s in found.stages] == ["check rows", *count.steps, "assign, score"]
    assert all(s.rows == len(X) and s.seconds > 0 for s in found.stages)
    assert found.seconds == pytest.approx(sum(s.seconds for s in found.stages))
    assert found.largest("seconds").seconds == max(s.seconds for s in found.stages)


def test_parts_of_the_rows_are_tried_with_the_batches_that_all_rows_have(monkeypatch):
    monkeypatch.setattr(forecast, "FEW", 32)
    rows = np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
    narrow = {
        "channels": (4,),
        "discriminator_channels": (4,),
        "embedding_hidden": (4,),
        "latent_dim": 2,
        "embed_dim": 2,
    }
    asked, source, count, sizes = settings("dcfae", **narrow, least_steps=40), ArraySource(rows), Count(), set()
    images = Dcfae._images
    monkeypatch.setattr(Dcfae, "_images", lambda self, x: (self.training and sizes.add(len(x)), images(self, x))[1])
    found = forecast.forecast(asked, source)
    assert max(sizes) == 50 and 16 not in sizes  # 16 would be those of a part; the smaller part is below a batch
    fitting.fit(asked, source, watcher=count)
    assert {s.name: s.steps for s in found.stages[1:-1]} == count.steps
    assert count.steps["pretrain"] == 2 * 40


def test_slow_steps_are_probed_less_often(monkeypatch):
    monkeypatch.setattr(forecast, "SECONDS", 0.0)
    taken, begun = Counter(), forecast._Clock.step
    monkeypatch.setattr(forecast._Clock, "step", lambda clock: (taken.update(steps=1), begun(clock))[1])
    found = forecast.forecast(settings("ae-kmeans", pretrain_batch_size=8), ArraySource(X))
    (pretrain,) = (s for s in found.stages if s.epochs)
    assert taken["steps"] == forecast.FEWEST and pretrain.steps == pretrain.epochs * 38 and pretrain.seconds > 0


def test_a_stop_rule_makes_epochs_a_bound_and_refreshes_count(monkeypatch):
    monkeypatch.setattr(forecast, "FEW", 32)
    stages = {s.name: s for s in forecast.forecast(settings("idec"), ArraySource(X)).stages}
    assert stages["cluster"].at_most and not stages["pretrain"].at_most
    assert (stages["cluster"].epochs, stages["cluster"].steps) == (3, 6)  # 300 rows in batches of 256


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of single stages are known on Linux only")
def test_memory_grows_with_the_batch():
    rows = ArraySource(np.zeros((4096, 4), np.float32) + np.arange(4, dtype=np.float32))
    small, large = (
        forecast.forecast(settings("ae-kmeans", hidden=(2000,), pretrain_batch_size=b, n_init=1), rows)
        for b in (64, 4096)
    )
    pretrain = [next(s for s in found.stages if s.name == "pretrain").memory for found in (small, large)]
    assert pretrain[1] - pretrain[0] > 4096 * 2000 * 4  # one layer's activations at least


def test_what_all_rows_take_follows_from_two_parts():
    assert forecast._power([2.0, 8.0], [10, 40], 400) == pytest.approx(80.0)
    assert forecast._power([1.0, 16.0], [10, 40], 80) == pytest.approx(64.0)  # grows as the square
    assert forecast._power([3.0, 3.0], [10, 40], 400) == pytest.approx(30.0)  # what does not grow on parts may later
    assert forecast._power([7.0], [40], 40) == 7.0
    assert forecast._line([100, 130], [10, 40], 400) == 490
    assert forecast._line([130, 100], [10, 40], 400) == 100 and forecast._line([None, None], [1, 2], 3) is None


def test_stages_that_a_run_replaces_take_no_steps():
    found = fitting.fit(settings("ae-kmeans", n_init=1), ArraySource(X))
    networks = fitting.Networks(found.model.network.parts(), [], "another run")
    stages = {s.name: s for s in forecast.forecast(settings("idec"), ArraySource(X), pretrained=networks).stages}
    assert (stages["pretrain"].steps, stages["pretrain"].seconds) == (0, 0.0) and stages["cluster"].steps


def test_a_machine_that_does_not_let_peaks_be_forgotten_has_a_forecast_all_the_same(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(memory.Path, "write_text", refuse)
    found = forecast.forecast(settings(), ArraySource(X))
    assert [s.name for s in found.stages][0] == "check rows" and found.seconds > 0
