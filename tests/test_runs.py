"""The run folder when the disk does not play along."""

import json
import os
import subprocess
from contextlib import suppress

import numpy as np
import pytest
import torch

from deepclust_accel import DeepClusterer, runs
from deepclust_accel.cli import main
from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.errors import OutputError, ResumeError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


@pytest.fixture(params=["full", "read-only"])
def disk(request, tmp_path):
    """A disk of its own that takes folders but no bytes, or nothing at all."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs leave to mount a disk")
    try:
        if request.param == "full":
            (place / "ballast").write_bytes(bytes(12288))  # 16 KiB less one page for the folder's root
            with pytest.raises(OSError), open(place / "more", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        else:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_fit_on_such_a_disk_is_refused_and_leaves_nothing(disk, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", X)
    before = sorted(disk.iterdir())
    arguments = ["fit", "kmeans", str(tmp_path / "x.npy"), "-k", "2", "--out", str(disk / "a" / "run")]
    monkeypatch.setattr("sys.argv", ["dcaccel", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "choose another --out" in capsys.readouterr().err
    assert sorted(disk.iterdir()) == before


def test_a_disk_that_fills_up_later_keeps_the_run_resumable(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", X)
    arguments = ["fit", "kmeans", str(tmp_path / "x.npy"), "-k", "2", "--out", str(tmp_path / "run")]

    def run(*more):
        monkeypatch.setattr("sys.argv", ["dcaccel", *arguments, *more])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    original = os.replace

    def full(source, target):
        if str(target).endswith("probabilities.npy"):
            raise OSError(28, "No space left on device")
        return original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert run() == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not [p for p in (tmp_path / "run").rglob("*") if p.name.endswith((".tmp", ".probe"))]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    assert run("--resume") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_what_a_killed_process_was_writing_is_in_nobodys_way(tmp_path):
    left = [tmp_path / name for name in (".7.probe", ".run.json.123.tmp", ".model.safetensors.9.tmp")]
    for path in left:
        path.touch()
    runs.claim(tmp_path, dry=True)
    assert sorted(tmp_path.iterdir()) == sorted(left)
    runs.claim(tmp_path)
    assert not list(tmp_path.iterdir())
    for name in (".hidden", "run.json.7.tmp", ".x.tmp"):  # not ours
        (tmp_path / name).touch()
        with pytest.raises(OutputError, match="other files"):
            runs.claim(tmp_path)
        (tmp_path / name).unlink()


def test_clearing_that_is_cut_off_can_be_done_again(tmp_path, monkeypatch):
    DeepClusterer("kmeans", 2, random_state=0).fit(X).save(tmp_path / "m")
    original = runs.Path.unlink

    def cut(path, **options):
        if path.name == "labels.npy":
            raise KeyboardInterrupt
        original(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.Path, "unlink", cut)
        runs.claim(tmp_path / "m", overwrite=True)
    runs.claim(tmp_path / "m", overwrite=True)
    assert not list((tmp_path / "m").iterdir())


def test_a_disk_that_is_full_when_a_snapshot_is_due_keeps_those_before(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "x.npy", X)
    place = tmp_path / "disk"
    place.mkdir()
    small = ["hidden=16", "pretrain_epochs=3", "epochs=3", "warmup_epochs=1", "classifier_steps=2", "n_init=2"]
    chosen = [word for setting in small for word in ("--set", setting)]

    def run(out, *more):
        arguments = [
            "dcaccel",
            "fit",
            "dvae",
            str(tmp_path / "x.npy"),
            "-k",
            "2",
            "--quiet",
            "--out",
            str(out),
            *chosen,
        ]
        monkeypatch.setattr("sys.argv", [*arguments, *more])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    save, saved = Checkpoint.save, []

    def filling(self, snapshot):
        if len(saved) == 3:
            with suppress(OSError), open(place / "ballast", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        save(self, snapshot)
        saved.append(snapshot)

    mount = ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", place]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs leave to mount a disk")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", filling)
            assert run(place / "run") == 2
        assert len(saved) == 3 and "No space left on device" in capsys.readouterr().err
        assert len(list((place / "run" / "checkpoint").iterdir())) == 2
        (place / "ballast").unlink()
        assert run(place / "run", "--resume") == 0 == run(tmp_path / "whole")
        for name in ("labels.npy", "probabilities.npy", "model.safetensors"):
            assert (place / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("there", [False, True])
def test_a_claim_that_fails_leaves_nothing(tmp_path, monkeypatch, there):
    folder = tmp_path / "a" / "b"
    if there:
        folder.mkdir(parents=True)

    def full(path, data):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space"):
        runs.claim(folder)
    assert folder.exists() == there == (tmp_path / "a").exists() and (not there or not list(folder.iterdir()))


def test_a_save_that_is_cut_off_can_be_told(tmp_path, monkeypatch):
    model = DeepClusterer("kmeans", 2, random_state=0).fit(X)
    monkeypatch.setattr(runs, "write_array", lambda *a: (_ for _ in ()).throw(OutputError("full")))
    with pytest.raises(OutputError):
        model.save(tmp_path / "m")
    monkeypatch.undo()
    with pytest.raises(ResumeError, match="finished run, got one that was interrupted"):
        DeepClusterer.load(tmp_path / "m")
    model.save(tmp_path / "m", overwrite=True)
    assert np.array_equal(DeepClusterer.load(tmp_path / "m").predict(X), model.labels_)


def test_a_model_is_loaded_without_joining_other_processes(tmp_path, monkeypatch):
    DeepClusterer("kmeans", 2, random_state=0).fit(X).save(tmp_path / "model")
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert runs.load_model(tmp_path / "model").device.type == "cpu"
    assert not torch.distributed.is_initialized()
