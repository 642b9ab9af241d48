"""Watchers: the terminal is given back whatever happens, and a resumed stage shows what is done."""

import io
import sys
import time
from types import SimpleNamespace

import pytest
from toys import ROWS, Autoencoder, loader

from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine import memory
from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import Bars, History, Lines, Watcher, together
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.tensorboard import TensorBoard
from deepclust_accel.errors import ArgumentError

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


class Slow(ArraySource):
    """Rows that take their time."""

    seconds = 0.02

    def take(self, index):
        time.sleep(self.seconds)
        return super().take(index)


def test_records_say_how_fast_an_epoch_was_and_what_it_waited_for():
    history, lines = History(), io.StringIO()
    engine = Engine(Runtime("cpu"), seed=0, history=history, watcher=Lines(lines))
    engine.fit(Autoencoder(), Loader(Slow(ROWS), seed=0))
    machine, waited = history.records[0]["machine"], 4 * Slow.seconds  # four batches
    assert waited / history.records[0]["seconds"] * 0.99 <= machine["wait_share"] <= 1
    assert 0 < machine["rows_per_second"] <= len(ROWS) / waited
    assert memory.resident() <= memory.peak() >= machine["memory"] > 0 and "device_memory" not in machine
    assert "rows/s" in lines.getvalue() and "waiting for rows" in lines.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="peaks can be forgotten on Linux only")
def test_peaks_are_forgotten_and_found_again():
    memory.forget_peak()
    before = memory.peak()
    block = bytearray(64 << 20)
    block[:: 4 << 10] = b"x" * len(block[:: 4 << 10])  # a page is held once it is written
    del block
    held = memory.peak()
    memory.forget_peak()
    assert held - before > 60 << 20 and memory.peak() < held - (60 << 20)


class StandIn:
    """What TensorBoard uses of a SummaryWriter."""

    def __init__(self, folder):
        self.folder, self.scalars, self.open = folder, {}, True
        StandIn.made.append(self)

    def add_scalar(self, tag, value, step):
        self.scalars.setdefault(tag, []).append((step, value))

    def flush(self):
        pass

    def close(self):
        self.open = False


def test_tensorboard_gets_terms_machine_and_health(monkeypatch, tmp_path):
    StandIn.made = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=StandIn))
    history, board = History(), TensorBoard(tmp_path / "events")
    assert not StandIn.made  # nothing is written before the first stage
    Engine(
        Runtime("cpu"),
        seed=0,
        history=history,
        watcher=together(Watcher(), board),
        examine=lambda method, run: {"rank": 1.5, "silhouette": None},
    ).fit(Autoencoder(), loader())
    (writer,) = StandIn.made
    assert writer.folder == str(tmp_path / "events") and not writer.open
    losses = [(r["epoch"] + 1, r["loss"]) for r in history.records if r["stage"] == "joint"]
    assert writer.scalars["joint/loss"] == losses and len(losses) == 4
    assert [value for _, value in writer.scalars["joint/machine/rows_per_second"]] == [
        r["machine"]["rows_per_second"] for r in history.records if r["stage"] == "joint"
    ]
    assert writer.scalars["center/health/rank"] == [(0, 1.5)] and "center/health/silhouette" not in writer.scalars


def test_tensorboard_is_named_when_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ArgumentError, match=r"deepclust-accel\[tensorboard\]"):
        TensorBoard(tmp_path)


def test_event_files_hold_what_was_told(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [point.step for point in events.Scalars("joint/loss")] == [1, 2, 3, 4]
