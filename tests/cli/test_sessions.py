"""Runs in several sessions: what the record says afterwards, and what is made up for."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from command_line import SMALL, ok, refused

from deepclust_accel import fitting, ops
from deepclust_accel.engine.engine import Engine


@pytest.fixture
def cut(rows, tmp_path, monkeypatch):
    """A fit that was interrupted in its second joint epoch, after a snapshot of the stages before."""
    original = Engine._epoch

    def interrupted(self, stage, index, epoch, *rest):
        if stage.name == "joint" and epoch == 1:
            raise MemoryError
        return original(self, stage, index, epoch, *rest)

    arguments = ["fit", "dvae", rows / "x.npz", "-k", 2, "--out", tmp_path / "r", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_epoch", interrupted)
        with pytest.raises(AssertionError, match="memory"):
            ok(*arguments)
    return arguments, tmp_path / "r" / "run.json"


def test_a_resumed_run_keeps_its_command_and_its_date(cut):
    arguments, path = cut
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"created": "then"}))
    ok(*arguments, "--resume")
    after = json.loads(path.read_text())
    assert after["command"] == record["command"] and "--resume" not in after["command"] and after["created"] == "then"
    assert (record["device"], after["device"]) == ("auto", str(fitting.Runtime().device))
    assert after["origins"]["n_clusters"] == "command line" and after["origins"]["seed"] == "default"
    assert after["origins"]["scaling"] == "data set"


def test_a_damaged_snapshot_is_said_in_a_line_and_the_one_before_is_used(cut):
    arguments, path = cut
    before, newest = sorted((path.parent / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    (line,) = (line for line in ok(*arguments, "--resume", "--quiet").stderr.splitlines() if "snapshot" in line)
    assert line.startswith("dcaccel: ") and newest.name in line and line.endswith(f"the one before, {before.name}")
    assert json.loads(path.read_text())["status"] == "finished"


def test_without_a_whole_snapshot_nothing_is_lost(cut):
    arguments, path = cut
    for snapshot in (path.parent / "checkpoint").iterdir():
        snapshot.write_bytes(b"")
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file() and p.name != "run.json"}
    assert "expected a readable snapshot" in refused(*arguments, "--resume", "--quiet")
    assert {p: p.read_bytes() for p in before} == before
    ok(*arguments, "--overwrite")


@pytest.mark.parametrize("killed", [False, True])
def test_the_kernels_of_every_session_are_told(cut, killed):
    arguments, path = cut
    record = json.loads(path.read_text())
    assert record["status"] == "running" and record["kernels"]["wasserstein_similarity"]["calls"] == 1
    if killed:
        del record["kernels"]
        path.write_text(json.dumps(record))
    with ops.backend("reference"):
        ok(*arguments, "--resume")
    kernels = json.loads(path.read_text())["kernels"]
    assert kernels["wasserstein_similarity"]["kernel"] == "reference"
    if killed:
        assert kernels["an earlier session"]["kernel"] == "unknown"
    elif record["kernels"]["wasserstein_similarity"]["kernel"] == "native":
        assert "native before it was interrupted" in kernels["wasserstein_similarity"]["why"]


def test_a_finished_run_without_a_page_gets_one(rows, tmp_path):
    arguments = ["fit", "kmeans", rows / "x.npz", "-k", 2, "--out", tmp_path / "r"]
    ok(*arguments)
    page = tmp_path / "r" / "report.html"
    before = page.read_text()
    page.unlink()
    (tmp_path / "r" / "checkpoint").mkdir()
    (tmp_path / "r" / "checkpoint" / f"snapshot-000-000001-{'0' * 32}.safetensors").write_text("{}")
    assert "nothing to resume" in ok(*arguments, "--resume").stderr
    assert page.read_text() == before and not (tmp_path / "r" / "checkpoint").exists()


def test_rows_are_read_once_to_assign_them(rows, tmp_path, monkeypatch):
    passes, original = [], fitting.Model.apply
    monkeypatch.setattr(fitting.Model, "apply", lambda *a: passes.append(1) or original(*a))
    ok("fit", "kmeans", rows / "x.npy", "-k", 2, "--out", tmp_path / "r")
    assert len(passes) == 1


@pytest.mark.parametrize("kind", ["parquet", "parquet text", "arrow folder", "csv column", "npz shards", "text shards"])
def test_labels_come_from_columns_and_shards(rows, tmp_path, kind):
    y, where = np.repeat([0, 1], 60), tmp_path / "y"
    table = pa.table({"x": y * 2.0, "label": np.array(["no", "yes"])[y] if kind == "parquet text" else y})
    if kind.startswith("parquet"):
        where = tmp_path / "y.parquet"
        pa.parquet.write_table(table, where, row_group_size=50)
    elif kind == "csv column":
        where = tmp_path / "y.csv"
        pa.csv.write_csv(table, where)
    elif kind == "arrow folder":
        where.mkdir()
        for i in range(2):
            pa.feather.write_feather(table[i * 60 : i * 60 + 60], where / f"{i}.arrow")
    else:  # each shard has one class
        where.mkdir()
        for i in range(2):
            shard = y[i * 60 : i * 60 + 60]
            np.savez(where / f"{i}.npz", X=np.ones(60), y=np.array(["no", "yes"])[shard] if "text" in kind else shard)
    part = "" if "shards" in kind else "::label"
    done = ok("fit", "kmeans", rows / "x.npy", "-k", 2, "--labels", f"{where}{part}", "--out", tmp_path / "r", "--json")
    assert json.loads(done.stdout)["scores"]["acc"] == 1.0
    ok("report", tmp_path / "r")  # finds them again


def test_labels_that_cannot_be_found_are_one_line(rows, tmp_path):
    pa.parquet.write_table(pa.table({"label": [0, 1], "other": [None, 1]}), tmp_path / "y.parquet")
    for part, message in (
        ("", "name it"),
        ("::labl", "did you mean 'label'"),
        ("::other", "1 missing"),
        ("::label", "(120,)"),
    ):
        where = f"{tmp_path / 'y.parquet'}{part}"
        assert message in refused("fit", "kmeans", rows / "x.npy", "-k", 2, "--labels", where, "--out", tmp_path / "r")
    assert "drop it" in refused(
        "fit", "kmeans", rows / "x.npy", "-k", 2, "--labels", f"{rows / 'x.npy'}::y", "--out", tmp_path / "r"
    )


@pytest.mark.parametrize("kind", ["text", "bool", "column", "npz", "csv"])
def test_labels_come_in_many_forms(rows, tmp_path, kind):
    y, path = np.repeat([0, 1], 60), tmp_path / ("y.npz" if kind == "npz" else "y.csv" if kind == "csv" else "y.npy")
    if kind == "npz":
        np.savez(path, X=np.load(rows / "x.npy"), y=y)
    elif kind == "csv":
        np.savetxt(path, y)
    else:
        np.save(path, {"text": np.array(["no", "yes"])[y], "bool": y > 0, "column": y[:, None]}[kind])
    done = ok("fit", "kmeans", rows / "x.npy", "-k", 2, "--labels", path, "--out", tmp_path / "r", "--json")
    assert json.loads(done.stdout)["scores"]["acc"] == 1.0
