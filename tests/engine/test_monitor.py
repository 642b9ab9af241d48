"""Watchers: the terminal is given back whatever happens, and a resumed stage shows what is done."""

import io
import sys

import pytest
from toys import Autoencoder, loader

from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import Bars, Watcher
from deepclust_accel.engine.runtime import Runtime

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())  # what rich replaces while a bar is live
    return Terminal()


class Interrupted(Bars):
    def end_epoch(self, record):
        super().end_epoch(record)
        if record["stage"] == "joint" and record["epoch"] == 1:
            raise KeyboardInterrupt


def fit(watcher, folder=None):
    checkpoint = folder and Checkpoint(folder / "snap", {})
    engine = Engine(Runtime("cpu"), seed=0, checkpoint=checkpoint, save_seconds=0.0, watcher=watcher)
    engine.fit(Autoencoder(), loader(), resume=True)


@pytest.mark.parametrize("bars", [Bars, Interrupted])
def test_the_terminal_is_given_back(terminal, bars):
    mine = sys.stdout
    if bars is Bars:
        fit(bars(terminal))
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(bars(terminal))
    text = terminal.getvalue()
    assert text.count(HIDE) == text.count(SHOW) > 0 and text.rindex(SHOW) > text.rindex(HIDE)
    assert sys.stdout is mine


def test_a_resumed_stage_starts_where_it_was(terminal, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(terminal), tmp_path)
    begun = []

    class Look(Watcher):
        def begin_stage(self, *facts):
            begun.append(facts)

    fit(Look(), tmp_path)
    assert begun == [(3, 3, "joint", 4, 4, 1)]  # the interrupted epoch was not saved
    resumed = Terminal()
    bars = Bars(resumed)
    bars.begin_stage(*begun[0])
    bars.close()
    assert "1/4 epochs" in resumed.getvalue() and "0/4" not in resumed.getvalue()
