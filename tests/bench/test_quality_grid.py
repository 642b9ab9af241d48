"""The quality bench: which cells run, what is recorded, and what a failing cell leaves."""

import json

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepclust_accel.bench.quality import cell, grid
from deepclust_accel.errors import ArgumentError, DataError, PluginError

SCORES = {"acc": 0.5, "nmi": 0.4, "nmi_max": 0.3, "ari": 0.2, "seconds": 1.0, "wall_seconds": 2.0, "peak_bytes": 2**20}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    X, y = make_blobs(300, 6, centers=4, cluster_std=3.0, random_state=1)
    np.savez(path, X=X.astype(np.float32), y=y)
    return path, X, y


@pytest.fixture
def calls(monkeypatch):
    """Cells that were run; they take no time, and fail where the seed is 13."""
    made = []

    def outcome(request, timeout_s=None):
        made.append((request["data"], request["label"], request["seed"]))
        if request["seed"] == 13:
            return {"status": "failed", "reason": "of a test"}
        return {"status": "ok", "reason": "", **SCORES}

    monkeypatch.setattr(grid, "outcome", outcome)
    return made


def requests(labels=("kmeans", "gmm"), seeds=(0, 1)):
    return [r for r in grid.plan(["kmeans"], [], ["digits"], seeds, 1.0) if r["label"] in labels]


def test_baselines_are_always_in_the_grid_and_seeds_are_outermost():
    planned = grid.plan(["dec"], [], ["digits"], [3, 5], 1.0)
    assert [r["label"] for r in planned] == 2 * [*grid.BASELINES, "dec"]
    assert [r["seed"] for r in planned] == [3] * 6 + [5] * 6


def test_all_installed_methods_without_a_choice():
    labels = {r["label"] for r in grid.plan([], [], ["digits"], [0], 1.0)}
    assert {"dvae", "dcfae", "ae-cm", *grid.BASELINES} <= labels


def test_epochs_scale_is_that_of_methods_with_epochs_only():
    planned = {r["label"]: r for r in grid.plan(["dec"], ["dec epochs=40"], ["digits"], [0], 0.1)}
    assert planned["kmeans"]["epochs_scale"] == 1.0 and planned["dec"]["epochs_scale"] == 0.1
    assert planned["dec epochs=40"]["params"]["epochs"] == 4


def test_precision_is_part_of_a_cell_where_there_is_something_to_train():
    small = "dec epochs=2 pretrain_epochs=1 hidden=8"
    half, full = (
        grid.plan(["kmeans"], [small], ["digits"], [0], 1.0, precision) for precision in ("bf16-mixed", "32-true")
    )
    (one,), labels = [r for r in half if r["method"] == "dec"], [r["label"] for r in half]
    assert one["label"] == f"{small} bf16-mixed" and "kmeans" in labels and "ae-kmeans bf16-mixed" in labels
    assert grid._identity(one) not in {grid._identity(r) for r in full}
    assert cell.outcome(one)["status"] == "ok"
    assert "precision: expected" in cell.outcome(one | {"precision": "half"})["reason"]  # it reaches the fit


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"methods": ["dek"]}, PluginError),
        ({"variants": ["dec epochs"]}, ArgumentError),
        ({"variants": ["dec epoch=4"]}, ArgumentError),
        ({"data": ["digit"]}, DataError),
        ({"precision": "bf16"}, ArgumentError),
    ],
)
def test_mistakes_are_found_before_anything_runs(change, error):
    with pytest.raises(error):
        grid.plan(**{"methods": [], "variants": [], "data": ["digits"], "seeds": [0], "epochs_scale": 1.0} | change)


def test_a_recorded_cell_is_not_run_again_and_keeps_what_made_it(tmp_path, calls):
    first = grid.run(requests(), tmp_path)
    assert len(calls) == len(first) == 4
    again = grid.run(requests(seeds=(0, 1, 2)), tmp_path)
    assert calls[4:] == [("digits", "kmeans", 2), ("digits", "gmm", 2)] and again[:4] == first
    assert first[0]["params"]["n_init"] and first[0]["versions"]["deepclust-accel"] and first[0]["recorded"]


def test_other_settings_are_another_cell(tmp_path, calls):
    grid.run(requests(("kmeans",), (0,)), tmp_path)
    other = [r | {"params": r["params"] | {"n_init": 3}} for r in requests(("kmeans",), (0,))]
    assert len(grid.run(other, tmp_path)) == len(calls) == 2


def test_other_rows_of_the_same_name_are_other_cells_and_push_the_old_ones_out(tmp_path, calls):
    path, g = tmp_path / "x.npz", np.random.default_rng(0)
    for expected in (1, 2):
        np.savez(path, X=g.normal(size=(30, 2)), y=np.arange(30) % 3)
        wanted = [r for r in grid.plan(["kmeans"], [], [str(path)], [0], 1.0) if r["label"] == "kmeans"]
        assert len(grid.run(wanted, tmp_path / "out")) == 1 and len(calls) == expected
    assert len((tmp_path / "out" / grid.RECORD).read_text().splitlines()) == 2


def test_failed_cells_are_recorded_and_run_again_on_request_only(tmp_path, calls):
    cells = grid.run(requests(("gmm",), (0, 13)), tmp_path, workers=2)
    assert {c["seed"]: (c["status"], c["reason"]) for c in cells} == {0: ("ok", ""), 13: ("failed", "of a test")}
    grid.run(requests(("gmm",), (0, 13)), tmp_path)
    assert len(calls) == 2
    assert len(grid.run(requests(("gmm",), (0, 13)), tmp_path, retry_failed=True)) == 2
    assert calls[2:] == [("digits", "gmm", 13)]


def test_a_line_cut_short_costs_its_own_cell_only(tmp_path, calls):
    grid.run(requests(), tmp_path)
    record = tmp_path / grid.RECORD
    whole = record.read_text()
    record.write_text(whole[: len(whole) - 40])
    assert len(grid.read(tmp_path)) == 3
    assert len(grid.run(requests(), tmp_path)) == 4 and len(calls) == 5
    assert len(grid.read(tmp_path)) == 4


def test_an_interrupt_keeps_what_is_recorded(tmp_path, monkeypatch):
    def outcome(request, timeout_s=None):
        if request["label"] == "gmm":
            raise KeyboardInterrupt
        return {"status": "ok", "reason": "", **SCORES}

    monkeypatch.setattr(grid, "outcome", outcome)
    with pytest.raises(KeyboardInterrupt):
        grid.run(requests(seeds=(0,)), tmp_path)
    assert [c["label"] for c in grid.read(tmp_path)] == ["kmeans"]


def test_a_cell_gives_what_scikit_learn_gives(blobs):
    """The whole way through another process, on rows where k-means is not perfect."""
    path, X, y = blobs
    (request,) = [r for r in grid.plan(["kmeans"], [], [str(path)], [0], 1.0) if r["label"] == "kmeans"]
    got = cell.outcome(request)
    assert got["status"] == "ok" and got["n_clusters"] == 4 and got["clusters_used"] == 4
    labels = KMeans(4, n_init=50, random_state=0).fit_predict(X)
    assert got["ari"] == pytest.approx(adjusted_rand_score(y, labels), abs=1e-6) and 0.3 < got["ari"] < 0.999
    assert got["nmi"] == pytest.approx(normalized_mutual_info_score(y, labels), abs=1e-6)
    assert got["nmi_max"] == pytest.approx(normalized_mutual_info_score(y, labels, average_method="max"), abs=1e-6)
    assert 2**20 < got["peak_bytes"] and 0 < got["seconds"] < 60


def test_a_cell_that_cannot_be_says_why_in_a_line(blobs):
    path, _, _ = blobs
    planned = {r["label"]: r for r in grid.plan(["dcec"], [], [str(path)], [0], 1.0)}
    unfit = cell.outcome(planned["dcec"])
    assert unfit["status"] == "unfit" and unfit["reason"].startswith("image_shape") and "\n" not in unfit["reason"]
    late = cell.outcome(planned["dcec"], timeout_s=0.01)
    assert late == {"status": "failed", "reason": "not done after 0.01 s"}
    lost = cell.outcome(planned["kmeans"] | {"data": "nowhere.npz"})
    assert lost["status"] == "failed" and "nowhere.npz" in lost["reason"]


def test_a_process_that_dies_is_a_failed_cell(monkeypatch):
    monkeypatch.setattr(cell, "__name__", "no.such.module")
    died = cell.outcome({})
    assert died["status"] == "failed" and died["reason"].startswith("the process ended with 1")


def test_the_record_is_one_json_line_a_cell(tmp_path, calls):
    grid.run(requests(), tmp_path)
    lines = (tmp_path / grid.RECORD).read_text().splitlines()
    assert len(lines) == 4 and all(json.loads(line)["status"] == "ok" for line in lines)


def test_cells_share_pretraining_and_each_is_charged_for_it(blobs, tmp_path):
    path, _, _ = blobs
    small = "hidden=8 latent_dim=2 pretrain_epochs=40"
    planned = grid.plan([], [f"ae-kmeans {small}", f"ae-gmm {small}"], [str(path)], [0], 1.0)
    requests = {r["method"]: r for r in planned if r["label"].endswith(small)}
    alone = cell.outcome(requests["ae-gmm"])
    grid.run([requests["ae-kmeans"]], tmp_path)
    (kept,) = (tmp_path / grid.CACHE).iterdir()
    shared = cell.outcome(requests["ae-gmm"] | {"cache": str(tmp_path / grid.CACHE)})
    assert [p.name for p in (tmp_path / grid.CACHE).iterdir()] == [kept.name]
    assert shared["acc"] == alone["acc"] and shared["nmi"] == alone["nmi"]
    assert shared["seconds"] > 0.3 * alone["seconds"]  # most of it is pretraining
