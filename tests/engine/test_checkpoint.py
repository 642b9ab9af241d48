"""Snapshots: resuming is bit-equal, damage and foreign settings are refused, nothing is half-written."""

import hashlib
import json
import pickle

import pytest
import torch
from toys import Autoencoder, StopAfter, loader

from deepclust_accel.engine.checkpoint import Checkpoint, Snapshot
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import History, logged
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import isolated
from deepclust_accel.errors import ResumeError, ResumeWarning

EPOCHS = 7  # 3 of pretrain, 4 of joint


def fit(folder, *, stop_after=None, build_seed=0, identity=None, save_seconds=0.0):
    with isolated(build_seed):
        method = Autoencoder()
    history = History(folder / "history.jsonl") if folder else History()
    checkpoint = Checkpoint(folder / "snap", identity or {"a": 1}) if folder else None
    watcher = StopAfter(stop_after) if stop_after else None
    engine = Engine(
        Runtime("cpu"), seed=0, checkpoint=checkpoint, history=history, watcher=watcher, save_seconds=save_seconds
    )
    engine.fit(method, loader(), resume=True)
    return method, history.records


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def terms(records):
    return [(r["stage"], r["epoch"], logged(r)) for r in records]


def snapshots(folder):
    return sorted((folder / "snap").glob("snapshot-*"))


def records_on_disk(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(None)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9], ids=["every-epoch", "stage-ends-only"])
@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
def test_interrupted_after_any_epoch_and_resumed_is_bit_equal(tmp_path, uninterrupted, epochs, save_seconds):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=epochs, save_seconds=save_seconds)
    torch.manual_seed(123)  # whatever the global state is by then, and whatever the fresh weights were
    method, records = fit(tmp_path, build_seed=99 if snapshots(tmp_path) else 0)
    assert same(method, uninterrupted[0])
    assert terms(records) == terms(uninterrupted[1])
    assert terms(records_on_disk(tmp_path)) == terms(uninterrupted[1])


def test_interrupted_several_times(tmp_path, uninterrupted):
    for _ in range(EPOCHS - 1):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, stop_after=1)
    method, records = fit(tmp_path)
    assert same(method, uninterrupted[0]) and terms(records) == terms(uninterrupted[1])


def test_other_settings_are_refused_and_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=4, identity={"params": {"rate": 1, "width": 2}, "seed": 0})
    with pytest.raises(ResumeError, match="params: rate was 1, is 3; seed: was 0, is 5"):
        fit(tmp_path, identity={"params": {"rate": 3, "width": 2}, "seed": 5})


def damage(path, how):
    """Spoil a file in one of the ways that happen."""
    data = bytearray(path.read_bytes())
    if how == "truncate":
        path.write_bytes(data[:-10])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        data[20 if how == "flip in the header" else len(data) - 20] ^= 1
        path.write_bytes(data)


DAMAGES = ["truncate", "empty", "unreadable", "flip in the header", "flip in the tensors"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_snapshot_is_named_and_the_one_before_is_used(tmp_path, uninterrupted, how):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=6)  # with snapshots after 4 and 5 epochs
    before, newest = snapshots(tmp_path)
    damage(newest, how)
    with pytest.warns(ResumeWarning) as said, pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=1, build_seed=99)
    assert newest.name in str(said[0].message) and f"the one before, {before.name}" in str(said[0].message)
    assert [r["epoch"] for r in records_on_disk(tmp_path)] == [0, 1, 2, 0, 1]  # the history goes back with the weights
    with pytest.warns(ResumeWarning):  # it was stopped before it wrote a better one
        method, records = fit(tmp_path, build_seed=99)
    assert same(method, uninterrupted[0])
    assert terms(records) == terms(uninterrupted[1]) == terms(records_on_disk(tmp_path))


def test_without_a_whole_snapshot_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=6)
    for path, how in zip(snapshots(tmp_path), ["truncate", "flip in the tensors"], strict=True):
        damage(path, how)
    with pytest.raises(
        ResumeError, match=r"expected a readable snapshot, got snapshot-.*; snapshot-.*; start a new run"
    ):
        fit(tmp_path)


def test_a_pickle_in_place_of_a_snapshot_is_not_opened(tmp_path):
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return opened.touch, ()

    data = pickle.dumps(Trap())
    (tmp_path / "snap").mkdir()
    (tmp_path / "snap" / f"snapshot-000-000001-{hashlib.sha256(data).hexdigest()[:32]}.safetensors").write_bytes(data)
    with pytest.raises(ResumeError):
        fit(tmp_path)
    pickle.loads(data)
    assert opened.exists()  # it would have shown


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("deepclust_accel.engine.checkpoint.FORMAT", 99)
    Checkpoint(tmp_path, {}).save(Snapshot(0, 1))
    monkeypatch.undo()
    with pytest.raises(ResumeError, match="got 99"):
        Checkpoint(tmp_path, {}).load()


def identity_of(world_size, **params):
    return {
        "seed": 0,
        "params": {"rate": 1, "batch_size": 64, "pretrain_batch_size": 32} | params,
        "world_size": world_size,
    }


@pytest.mark.parametrize("params", [{}, {"batch_size": 128, "pretrain_batch_size": 64}, {"batch_size": 128}])
def test_other_processes_may_go_on_and_it_is_said(tmp_path, params):
    Checkpoint(tmp_path, identity_of(2)).save(Snapshot(1, 2))
    with pytest.warns(ResumeWarning, match="a snapshot of 2 processes goes on with 1; not bit-equal"):
        assert Checkpoint(tmp_path, identity_of(1, **params)).load().epoch == 2


@pytest.mark.parametrize(
    ("world_size", "params", "named"),
    [
        (1, {"rate": 2}, "params: rate was 1, is 2;"),
        (1, {"batch_size": 65}, "params: batch_size was 64, is 65;"),
        (1, {"batch_size": 32}, "params: batch_size was 64, is 32;"),
        (2, {"batch_size": 128}, "params: batch_size was 64, is 128;"),
    ],
)
def test_other_processes_are_no_excuse_for_other_settings(tmp_path, world_size, params, named):
    Checkpoint(tmp_path, identity_of(2)).save(Snapshot(1, 2))
    with pytest.raises(ResumeError, match=named.replace(";", r"\)?;")):
        Checkpoint(tmp_path, identity_of(world_size, **params)).load()


def test_the_last_two_snapshots_are_kept_and_removal_leaves_nothing(tmp_path):
    checkpoint = Checkpoint(tmp_path / "snap", {})
    for epoch in range(8, 12):  # where the order of the numbers is not that of their digits
        if epoch > 8:
            (tmp_path / "snap" / f".snapshot.unnamed.{epoch}.tmp").touch()  # a process was killed while writing
            (tmp_path / "snap" / f".tmpAb3{epoch}").touch()  # in the midst of safetensors
        checkpoint.save(Snapshot(0, epoch, tensors={"x": torch.full((2,), float(epoch))}))
    assert [p.name[:19] for p in sorted((tmp_path / "snap").iterdir())] == [
        "snapshot-000-000010",
        "snapshot-000-000011",
    ]
    assert checkpoint.load().tensors["x"].tolist() == [11.0, 11.0]
    (tmp_path / "snap" / ".snapshot.unnamed.7.tmp").touch()
    (tmp_path / "snap" / "snapshot.unnamed").touch()
    checkpoint.remove()
    assert not (tmp_path / "snap").exists()


def test_a_crash_while_writing_keeps_the_snapshots_there_were(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "snap", {})
    checkpoint.save(Snapshot(0, 1, tensors={"x": torch.ones(2)}))
    monkeypatch.setattr(
        "deepclust_accel.engine.checkpoint.save_file", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(Snapshot(0, 2, tensors={"x": torch.zeros(2)}))
    monkeypatch.undo()
    assert checkpoint.load().tensors["x"].tolist() == [1.0, 1.0]
