"""Run folders that are used twice, at once, by hand or by mistake: one line each, and nothing lost."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, dcaccel, ok, refused

from deepclust_accel import runs
from deepclust_accel.errors import OutputError


@pytest.fixture
def run(rows, tmp_path):
    out = tmp_path / "run"
    ok("fit", "kmeans", rows / "x.npz", "-k", 2, "--out", out)
    return out


def edit(out, change):
    record = json.loads((out / "run.json").read_text())
    change(record)
    (out / "run.json").write_text(json.dumps(record))


def test_settings_are_compared_before_the_first_snapshot_too(run, rows):
    edit(run, lambda record: record.update(status="running"))
    for changed in (["-k", 3], ["-k", 2, "--seed", 1], ["-k", 2, "--set", "n_init=3"]):
        line = refused("fit", "kmeans", rows / "x.npz", *changed, "--out", run, "--resume")
        assert "expected the run that was interrupted, got other settings" in line
    ok("fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--resume")
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["model.safetensors", "labels.npy", "probabilities.npy"])
def test_a_finished_run_without_its_files_is_not_called_finished(run, rows, name):
    (run / name).unlink()
    assert "fit again" in refused("fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--resume")


@pytest.mark.parametrize("overwrite", [True, False])
def test_one_process_a_folder(run, rows, overwrite):
    before = (run / "model.safetensors").read_bytes()
    edit(run, lambda record: record.update(status="running"))
    with runs.hold(run):
        line = refused(
            "fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--overwrite" if overwrite else "--resume"
        )
        assert "another process" in line
        with pytest.raises(OutputError), runs.hold(run):
            pass
    assert (run / "model.safetensors").read_bytes() == before
    ok("fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--overwrite")


def test_a_setting_that_fails_in_training_does_not_leave_a_folder_in_the_way(rows, tmp_path):
    arguments = ["fit", "ae-kmeans", rows / "x.npy", "-k", 2, "--set", "hidden=8", "--out", tmp_path / "run"]
    assert "finite" in dcaccel(*arguments, "--set", "pretrain_learning_rate=1e30", "--quiet").stderr
    assert not any((tmp_path / "run").iterdir())
    ok(*arguments, "--set", "pretrain_epochs=1")


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["model"].update(n_clusters=-1),
        lambda r: r["model"].update(params=None),
        lambda r: r["model"]["spec"].update(shape="x"),
        lambda r: r.update(model=None),
        lambda r: r.pop("model"),
    ],
)
def test_records_edited_by_hand(run, rows, change):
    edit(run, change)
    assert "fit again" in refused("predict", run, rows / "x.npy")


@pytest.mark.parametrize("key", ["params", "data"])
def test_records_that_cannot_be_compared(run, rows, key):
    edit(run, lambda record: record.pop(key))
    line = refused("fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--resume")
    assert "expected the record of a run" in line


@pytest.mark.parametrize("key", ["data", "seconds", "scores", "label_free", "n_clusters", "clusters_used", "labels"])
@pytest.mark.parametrize("value", [[1], {"assign": "x"}, 0.5], ids=str)
def test_entries_of_another_kind(run, rows, key, value):
    if isinstance(value, dict) and key in ("data", "label_free"):
        pytest.skip("these are dictionaries of anything")
    edit(run, lambda record: record.update({key: value}))
    for command in (["report", run], ["fit", "kmeans", rows / "x.npz", "-k", 2, "--out", run, "--resume"]):
        assert f"got ValueError: {key} = " in refused(*command)


def test_a_record_nested_without_end(run, rows):
    (run / "run.json").write_text("[" * 100_000)
    assert "expected a run record" in refused("predict", run, rows / "x.npy")


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.full(120, 99), np.full(120, -1)])
def test_labels_of_another_run(run, labels):
    np.save(run / "labels.npy", labels)
    assert "expected 120 labels below 2" in refused("report", run)


def test_history_that_is_none(run):
    (run / "history.jsonl").write_text("[1]\n")
    assert "fit again" in refused("report", run)


def test_collapse_is_said(tmp_path):
    np.save(tmp_path / "x.npy", np.repeat(np.eye(2, 3, dtype=np.float32), 40, 0))
    done = ok("fit", "kmeans", tmp_path / "x.npy", "-k", 5, "--out", tmp_path / "run")
    assert "only 2 of 5 clusters have rows" in done.stdout + done.stderr


def test_values_too_close_for_float32(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 2)) + 1e9)
    arguments = ["fit", "kmeans", tmp_path / "x.npy", "-k", 2, "--out", tmp_path / "run"]
    assert "use --scaling standard" in refused(*arguments)
    ok(*arguments, "--scaling", "standard")


@pytest.mark.parametrize("header, message", [("0,1,2", "column numbers 0 to 2"), ("a,b,Label", "column named 'Label'")])
def test_headers_of_a_csv_that_would_be_clustered(tmp_path, header, message):
    Path(tmp_path / "x.csv").write_text(header + "\n1,2,0\n3,4,1\n5,6,0\n")
    assert message in refused("fit", "kmeans", tmp_path / "x.csv", "-k", 2, "--out", tmp_path / "run")


def test_help_keeps_its_brackets():
    assert "[" in ok("fit", "--help", env={"COLUMNS": "200"}).stdout
    assert "Comma-separated [default: all]." in " ".join(
        ok("bench", "kernels", "--help", env={"COLUMNS": "200"}).stdout.split()
    )


def test_bench_looks_at_its_folder_first(tmp_path):
    (tmp_path / "file").write_text("")
    assert "expected a folder to write into" in refused("bench", "kernels", "--out", tmp_path / "file")


def test_a_dry_run_writes_nothing_and_says_what_a_fit_takes(rows, finished, tmp_path):
    def content(folder):
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}

    def stands():
        return [content(f) for f in (tmp_path, finished[0], rows)]

    before, asked = stands(), ("fit", "dvae", rows / "x.npz", "-k", 2, "--dry-run", *SMALL)
    found = json.loads(ok(*asked, "--json", "--out", tmp_path / "new", cwd=tmp_path).stdout)
    text = ok(*asked, "--out", finished[0], "--overwrite", cwd=tmp_path).stdout
    assert stands() == before and not (tmp_path / "new").exists()
    assert found["schema"] == "deepclust_accel.forecast"
    joint = next(s for s in found["stages"] if s["name"] == "joint")
    assert (joint["rows"], joint["epochs"], joint["steps"]) == (120, 3, 3)
    assert {"seconds", "memory", "longest", "largest", "device", "probe_seconds"} <= set(found)
    assert "joint" in text and "nothing was written" in text


def test_a_dry_run_needs_no_folder_and_forecasts_whole_runs_only(rows, tmp_path):
    ok("fit", "kmeans", rows / "x.npy", "-k", 2, "--dry-run", cwd=tmp_path)
    assert "--dry-run" in refused("fit", "kmeans", rows / "x.npy", "-k", 2, "--dry-run", "--resume", cwd=tmp_path)


def test_a_dry_run_refuses_what_the_fit_would(finished, rows):
    asked = ("fit", "kmeans", rows / "x.npz", "-k", 2, "--scaling", "standard", "--pretrained", finished[0])
    assert "expected a method with pretraining" in refused(*asked, "--dry-run")
    assert refused(*asked, "--dry-run") == refused(*asked, "--out", finished[0] / "none")


def test_a_dry_run_refuses_the_folder_that_the_fit_would(run, rows):
    assert "--overwrite" in refused("fit", "kmeans", rows / "x.npy", "-k", 2, "--dry-run", "--out", run)


def test_tensorboard_is_refused_before_anything_is_written(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    asked = ("fit", "ae-kmeans", rows / "x.npy", "-k", 2, "--out", tmp_path / "r", "--tensorboard")
    assert "deepclust-accel[tensorboard]" in refused(*asked) and not (tmp_path / "r").exists()
