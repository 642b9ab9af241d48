"""Results of a fit, of predict and of embed are written as they come, and are those of arrays held in memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from scipy.spatial.distance import cdist

from deepclust_accel import metrics, report, runs, workflow
from deepclust_accel.data import open_data
from deepclust_accel.data.writing import open_rows
from deepclust_accel.errors import DataError, OutputError
from deepclust_accel.report import collect, render, survey
from deepclust_accel.report.survey import Nearest


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("bounded")
    y = generator.integers(0, 4, 3000)
    np.savez(folder / "x.npz", X=(generator.normal(size=(3000, 6)) + 4 * np.eye(6)[y]).astype(np.float32), y=y)
    return folder / "x.npz"


def run_kmeans(rows, out, **more):
    return workflow.run_fit(workflow.FitRequest("kmeans", str(rows), out, 4, **more), quiet=True)


@pytest.mark.parametrize("most", [10_000, 100])
def test_what_a_fit_writes_is_what_its_model_says(rows, tmp_path, monkeypatch, most):
    monkeypatch.setattr(survey, "MAP_ROWS", most)
    seen = {}
    write = workflow.report.write
    monkeypatch.setattr(workflow.report, "write", lambda *a: seen.update(survey=a[5]) or write(*a))
    record = run_kmeans(rows, tmp_path / "run")
    source, model = open_data(rows).source, runs.load_model(tmp_path / "run")
    labels = np.load(tmp_path / "run" / "labels.npy")
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, model.predict(source))
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "probabilities.npy"), model.probabilities(source))
    codes, sample = model.embed(source), seen["survey"].rows
    assert len(sample) == min(most, 3000) and (np.diff(sample) > 0).all()
    np.testing.assert_array_equal(seen["survey"].codes, codes[sample])
    np.testing.assert_array_equal(seen["survey"].labels, labels[sample])
    assert record["label_free"] == metrics.label_free(codes[sample], labels[sample])
    for k in range(4):
        own = np.flatnonzero(labels == k)
        middle = codes[sample][labels[sample] == k].astype(np.float64).mean(0)
        expected = own[np.argsort(cdist(codes[own], middle[None])[:, 0])[:10]]
        np.testing.assert_array_equal(seen["survey"].nearest[k], expected)
    page = (tmp_path / "run" / "report.html").read_bytes()
    workflow.redraw(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").read_bytes() == page


def test_the_page_counts_some_of_very_many_rows_and_says_so(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MOST_ROWS", 200)
    monkeypatch.setattr(survey, "MAP_ROWS", 50)
    seen = {}
    monkeypatch.setattr(report, "render", lambda content: seen.update(content=content) or render(content))
    record = run_kmeans(rows, tmp_path / "run")
    labels, content = np.load(tmp_path / "run" / "labels.npy"), seen["content"]
    assert record["sizes"] == np.bincount(labels, minlength=4).tolist() and record["clusters_used"] == 4
    assert 200 < len(content.labels) <= 250 and len(content.sample) == 50
    shown = survey.sample_rows(3000)
    np.testing.assert_array_equal(content.labels[content.sample], labels[shown])
    np.testing.assert_array_equal(content.truth[content.sample], open_data(rows).labels[shown])
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{len(content.labels)} rows, drawn at random from 3,000" in page


def test_nearest_rows_however_they_come():
    generator = np.random.default_rng(1)
    codes, labels = generator.integers(0, 5, (400, 2)).astype(np.float32), generator.integers(0, 6, 400)
    labels[labels == 3] = 2
    labels[17] = 3  # a cluster of one row, which a sample may miss
    expected = np.full((6, 10), -1)
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        distance = np.square(codes[own] - codes[own].mean(0)).sum(1)
        expected[k, : min(10, len(own))] = own[np.argsort(distance, kind="stable")[:10]]
    for size in (1, 7, 400):
        found = Nearest(codes, labels, 6)
        for first in range(0, 400, size):
            found.add(codes[first : first + size], labels[first : first + size], first)
        np.testing.assert_array_equal(found.rows, expected)
    found = Nearest(codes[:10], labels[:10], 6)  # which lacks cluster 3
    found.add(codes, labels, 0)
    assert found.rows[3].tolist() == [17] + [-1] * 9


def test_predict_and_embed_write_npy_and_parquet(rows, tmp_path, monkeypatch, capsys):
    from deepclust_accel import cli

    run_kmeans(rows, tmp_path / "run")
    model, source = runs.load_model(tmp_path / "run"), open_data(rows).source

    def dcaccel(*arguments):
        monkeypatch.setattr(sys, "argv", ["dcaccel", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return json.loads(capsys.readouterr().out)

    said = dcaccel(
        *("predict", tmp_path / "run", rows, "--json"),
        *("--out", tmp_path / "l.npy", "--probabilities", tmp_path / "p.parquet"),
    )
    dcaccel("predict", tmp_path / "run", rows, "--json", "--out", tmp_path / "l.parquet")
    dcaccel("embed", tmp_path / "run", rows, "--json", "--out", tmp_path / "z.parquet")
    labels = model.predict(source)
    assert said["sizes"] == np.bincount(labels).tolist()
    assert said["scores"] == metrics.scores(open_data(rows).labels, labels)
    np.testing.assert_array_equal(np.load(tmp_path / "l.npy"), labels)
    table = pyarrow.parquet.read_table(tmp_path / "l.parquet")
    np.testing.assert_array_equal(table["cluster"].to_numpy(), labels)
    for name, expected in (("p", model.probabilities(source)), ("z", model.embed(source))):
        found = open_data(tmp_path / f"{name}.parquet").source.take(np.arange(3000)).numpy()
        np.testing.assert_array_equal(found, expected)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_rows_written_in_blocks_are_whole_or_absent(tmp_path, suffix):
    path, rows = tmp_path / f"x{suffix}", np.random.default_rng(0).normal(size=(3000, 700))  # several row groups

    def write(until, shape=(700,)):
        with open_rows(path, 3000, shape, np.float32) as put:
            for first in range(0, until, 70):
                put(rows[first : min(first + 70, until)])

    for until in (0, 2999):
        with pytest.raises(ValueError, match=f"expected 3000 rows, got {until}"):
            write(until)
    with pytest.raises(KeyboardInterrupt), open_rows(path, 3000, (700,), np.float32) as put:
        put(rows[:10])
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match="No space"), open_rows(path, 3000, (700,), np.float32) as put:
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
    write(3000)
    found = open_data(path).source.take(np.arange(3000)).numpy()
    np.testing.assert_array_equal(found, rows.astype(np.float32))
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".npy":
        np.save(tmp_path / "y.npy", rows.astype(np.float32))
        assert path.read_bytes() == (tmp_path / "y.npy").read_bytes()
    else:
        with pytest.raises(DataError, match="flat rows"):
            write(3000, (7, 100))


MEMORY = """
import sys
from pathlib import Path
import numpy as np
import torch
from deepclust_accel import workflow

torch.set_num_threads(1)

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

small, large, out, method = sys.argv[1:]
request = dict(method=method, n_clusters=4, layers=[("test", {"hidden": "8", "latent_dim": "4", "layer_epochs": "0",
    "pretrain_batch_size": "4096", "pretrain_epochs": "1", "n_init": "1"})])
workflow.run_fit(workflow.FitRequest(data=small, out=Path(out) / "small", **request), quiet=True)  # all code is loaded now
import threading, time
most, before, stop = [0.0], anonymous(), threading.Event()

def watch():
    while not stop.is_set():
        most[0] = max(most[0], anonymous())
        time.sleep(0.05)

watcher = threading.Thread(target=watch)
watcher.start()
workflow.run_fit(workflow.FitRequest(data=large, out=Path(out) / "large", **request), quiet=True)
stop.set()
watcher.join()
print(most[0] - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_fit_does_not_hold_the_data(tmp_path):
    """1 GiB of rows on disk, as a sparse file."""
    rows, columns = 1 << 17, 2048
    np.save(tmp_path / "small.npy", np.random.default_rng(0).normal(size=(12_000, columns)).astype(np.float32))
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (rows, columns))
    large[:: rows // 512, :4] = np.random.default_rng(0).normal(size=(512, 4))
    large.flush()
    del large
    arguments = [tmp_path / "small.npy", tmp_path / "large.npy", tmp_path, "ae-kmeans"]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, arguments)], capture_output=True, text=True, env=threads
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200, done.stdout  # MiB
