"""Snapshots: resuming is bit-equal, damage and foreign settings are refused, nothing is half-written."""

import json

import pytest
import torch
from toys import Autoencoder, StopAfter, loader

from deepclust_accel.engine.checkpoint import Checkpoint, Snapshot
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import History, logged
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import isolated
from deepclust_accel.errors import ResumeError

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


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(None)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9], ids=["every-epoch", "stage-ends-only"])
@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
def test_interrupted_after_any_epoch_and_resumed_is_bit_equal(tmp_path, uninterrupted, epochs, save_seconds):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=epochs, save_seconds=save_seconds)
    torch.manual_seed(123)  # whatever the global state is by then, and whatever the fresh weights were
    method, records = fit(tmp_path, build_seed=99 if (tmp_path / "snap" / "checkpoint.json").exists() else 0)
    assert same(method, uninterrupted[0])
    assert terms(records) == terms(uninterrupted[1])
    assert terms(map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())) == terms(uninterrupted[1])


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


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "json", "foreign"])
def test_damage_is_detected(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, stop_after=4)
    tensors, index = next((tmp_path / "snap").glob("*.safetensors")), tmp_path / "snap" / "checkpoint.json"
    data = bytearray(tensors.read_bytes())
    if damage == "truncate":
        tensors.write_bytes(data[:-10])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        tensors.write_bytes(data)
    elif damage == "missing":
        tensors.unlink()
    elif damage == "json":
        index.write_text(index.read_text()[:-20])
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "format": 99}))
    with pytest.raises(ResumeError):
        fit(tmp_path)


def test_only_the_newest_snapshot_is_kept_and_removal_leaves_nothing(tmp_path):
    checkpoint = Checkpoint(tmp_path / "snap", {})
    for epoch in range(3):
        checkpoint.save(Snapshot(0, epoch, tensors={"x": torch.full((2,), float(epoch))}))
    assert sorted(p.name for p in (tmp_path / "snap").iterdir()) == ["checkpoint.json", "state-000-000002.safetensors"]
    assert checkpoint.load().tensors["x"].tolist() == [2.0, 2.0]
    for name in (".checkpoint.json.7.tmp", ".state-000-000003.safetensors.7.tmp"):  # a process was killed while writing
        (tmp_path / "snap" / name).touch()
    checkpoint.remove()
    assert not (tmp_path / "snap").exists()


def test_a_crash_between_tensors_and_index_keeps_the_old_snapshot(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "snap", {})
    checkpoint.save(Snapshot(0, 1, tensors={"x": torch.ones(2)}))
    monkeypatch.setattr(
        "deepclust_accel.engine.checkpoint.write_atomic", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(Snapshot(0, 2, tensors={"x": torch.zeros(2)}))
    monkeypatch.undo()
    assert checkpoint.load().tensors["x"].tolist() == [1.0, 1.0]
