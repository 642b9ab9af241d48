"""Ctrl-C and SIGTERM during training: the epoch ends, a snapshot is taken, and the run goes on bit for bit."""

import signal

import pytest
import torch
from toys import Autoencoder, loader

from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.interrupts import Interrupts
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import isolated


@pytest.fixture(autouse=True)
def interruptible():
    """Python's own handler, which is missing where a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Signals(Watcher):
    """Sends signals to this process in a step."""

    def __init__(self, at, *numbers):
        self.at, self.numbers, self.steps, self.ended = at, numbers, 0, 0

    def step(self):
        self.steps += 1
        if self.steps == self.at:
            for number in self.numbers:
                signal.raise_signal(number)

    def end_epoch(self, record):
        self.ended += 1


def fit(folder=None, watcher=None, resume=False):
    with isolated(0):
        method = Autoencoder()
    snapshots = Checkpoint(folder, {}) if folder else None
    Engine(Runtime("cpu"), seed=0, checkpoint=snapshots, watcher=watcher).fit(method, loader(), resume=resume)
    return method.state_dict()


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_epoch_ends_and_is_kept(tmp_path, capfd, number, error):
    whole, before = fit(), signal.getsignal(number)
    watcher = Signals(6, number)  # in the second of three epochs of pretraining, four steps each
    with pytest.raises(error) as caught:
        fit(tmp_path, watcher)
    assert error is KeyboardInterrupt or caught.value.code == 143
    assert (watcher.steps, watcher.ended) == (8, 2) and "end of this epoch" in capfd.readouterr().err
    assert signal.getsignal(number) == before
    snapshot = Checkpoint(tmp_path, {}).load()
    assert (snapshot.stage, snapshot.epoch) == (0, 2)
    resumed = fit(tmp_path, resume=True)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_the_second_one_stops_at_once(tmp_path):
    watcher = Signals(6, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, watcher)
    assert (watcher.steps, watcher.ended) == (6, 1)


def test_without_snapshots_nothing_is_put_off():
    watcher = Signals(6, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(None, watcher)
    assert watcher.steps == 6


def test_outside_an_epoch_nothing_is_put_off():
    with pytest.raises(KeyboardInterrupt), Interrupts(True) as interrupts:
        assert not interrupts.patient
        signal.raise_signal(signal.SIGINT)
