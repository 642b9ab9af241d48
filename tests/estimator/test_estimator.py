"""DeepClusterer: scikit-learn's own checks, inputs of every kind, save and load in a fresh process."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from deepclust_accel import DeepClusterer
from deepclust_accel.data import open_data
from deepclust_accel.errors import ArgumentError, DataError, OutputError, PluginError, ResumeError, TrainingError
from deepclust_accel.methods.dvae import DvaeParams

QUICK = {"hidden": (16,), "latent_dim": 3, "layer_epochs": 1, "pretrain_epochs": 2}
QUICK_DVAE = {
    **QUICK,
    "hidden": (64,),
    "pretrain_epochs": 60,
    "epochs": 3,
    "warmup_epochs": 1,
    "classifier_steps": 300,
    "n_init": 2,
}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(400, 6, centers=4, cluster_std=0.5, random_state=0)
    return X.astype(np.float32), y


def quick(method="dvae", **options):
    params = {"dvae": QUICK_DVAE, "ae-kmeans": QUICK, "ae-gmm": QUICK}.get(method, {})
    return DeepClusterer(method, options.pop("n_clusters", 4), params=params, random_state=0, **options)


@pytest.mark.parametrize("method", ["dvae", "ae-kmeans", "kmeans", "gmm", "pca-kmeans"])
def test_scikit_learn_checks_pass_without_exceptions(method):
    check_estimator(quick(method))


def test_fit_predict_transform_agree_in_shape_and_labels(blobs):
    X, _ = blobs
    model = quick().fit(X)
    assert model.labels_.shape == (400,) and model.labels_.dtype == np.int64
    assert np.array_equal(model.predict(X), model.labels_)
    p = model.predict_proba(X)
    assert p.shape == (400, 4) and np.allclose(p.sum(1), 1, atol=1e-6) and np.array_equal(p.argmax(1), model.labels_)
    assert model.transform(X).shape == (400, 3) and model.cluster_centers_.shape == (4, 3)
    assert model.n_features_in_ == 6 and {r["stage"] for r in model.history_} >= {"pretrain", "joint"}


def test_a_row_alone_gets_what_it_gets_in_a_crowd(blobs):
    X, _ = blobs
    model = quick().fit(X)
    alone = np.concatenate([model.transform(X[i : i + 1]) for i in range(20)])
    assert np.array_equal(alone, model.transform(X)[:20])


def test_codes_have_names(blobs):
    model = quick("ae-kmeans").fit(blobs[0])
    assert model.get_feature_names_out().tolist() == ["deepclusterer0", "deepclusterer1", "deepclusterer2"]
    assert model.set_output(transform="default").transform(blobs[0]).shape == (400, 3)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_the_responsibilities_of_gmm_are_scikit_learns(monkeypatch, covariance):
    monkeypatch.setattr("deepclust_accel.methods.gmm.draw_seed", lambda run: 7)
    X = make_blobs(600, 4, centers=3, cluster_std=3.0, random_state=1)[0].astype(np.float32)
    params = {"covariance": covariance, "mixture_n_init": 2}
    model = DeepClusterer("gmm", 3, params=params, scaling="none", random_state=0).fit(X)
    theirs = GaussianMixture(3, covariance_type=covariance, n_init=2, random_state=7).fit(X.astype(np.float64))
    assert (model.predict_proba(X).max(1) < 0.9).sum() > 20  # not a matter of 0 and 1
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("method", ["ae-kmeans", "kmeans", "gmm", "ae-gmm", "pca-kmeans"])
def test_separated_blobs_are_found(blobs, method):
    X, y = blobs
    assert adjusted_rand_score(y, quick(method, scaling="standard").fit_predict(X)) > 0.95


def test_dvae_finds_separated_blobs(blobs):
    X, y = blobs
    params = {
        "hidden": (32,),
        "latent_dim": 4,
        "pretrain_epochs": 30,
        "epochs": 20,
        "warmup_epochs": 10,
        "pretraining": "plain",
    }
    model = DeepClusterer("dvae", 4, params=params, scaling="standard", random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) > 0.95


def test_same_seed_same_labels_and_codes(blobs):
    X, _ = blobs
    a, b, c = quick().fit(X), quick().fit(X), quick().set_params(random_state=1).fit(X)
    assert np.array_equal(a.labels_, b.labels_) and np.array_equal(a.transform(X), b.transform(X))
    assert not np.array_equal(a.transform(X), c.transform(X))


def test_global_generators_are_left_alone(blobs):
    X, _ = blobs
    np.random.seed(3), torch.manual_seed(3)
    expected = np.random.rand(2), torch.rand(2)
    np.random.seed(3), torch.manual_seed(3)
    quick().fit(X).predict(X)
    assert np.array_equal(np.random.rand(2), expected[0]) and torch.equal(torch.rand(2), expected[1])


def test_labels_given_to_fit_change_nothing(blobs):
    X, y = blobs
    assert np.array_equal(quick().fit(X, y).transform(X), quick().fit(X).transform(X))


def test_every_kind_of_input_gives_the_same(blobs, tmp_path):
    X, _ = blobs
    np.save(tmp_path / "x.npy", X)
    expected = quick().fit(X).labels_
    for given in (torch.from_numpy(X), np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.npy", X.tolist()):
        labels = quick().fit(given).labels_
        assert np.array_equal(labels, expected), type(given)


def test_tensor_in_tensor_out(blobs):
    X, _ = blobs
    model = quick().fit(X)
    assert isinstance(model.transform(torch.from_numpy(X)), torch.Tensor)
    assert np.array_equal(model.transform(torch.from_numpy(X)).numpy(), model.transform(X))


def test_images_are_clustered_as_they_are():
    images = load_digits().images[:200].astype(np.uint8)
    model = quick(scaling="unit").fit(images)
    assert model.n_features_in_ == 64
    assert np.array_equal(model.labels_, quick(scaling="unit").fit(images.reshape(200, 64)).labels_)


def test_scaling_is_part_of_the_model(blobs):
    X, _ = blobs
    a = quick("kmeans", scaling="standard").fit(X)
    b = quick("kmeans", scaling="standard").fit(X * 1000 + 5)
    assert np.array_equal(a.labels_, b.labels_)
    assert np.array_equal(b.predict(X * 1000 + 5), b.labels_)


FRESH = """
import sys, numpy as np
from deepclust_accel import DeepClusterer
model = DeepClusterer.load(sys.argv[1])
X = np.load(sys.argv[2])
np.savez(sys.argv[3], labels=model.predict(X), codes=model.transform(X), p=model.predict_proba(X))
"""


@pytest.mark.parametrize("method", ["dvae", "ae-gmm", "pca-kmeans"])
def test_saved_and_loaded_in_a_fresh_process_predicts_the_same(blobs, tmp_path, method):
    X, _ = blobs
    torch.set_num_threads(torch.get_num_threads())
    model = quick(method, scaling="standard").fit(X)
    model.save(tmp_path / "model")
    np.save(tmp_path / "x.npy", X)
    subprocess.run(
        [sys.executable, "-c", FRESH, tmp_path / "model", tmp_path / "x.npy", tmp_path / "out.npz"], check=True
    )
    out = np.load(tmp_path / "out.npz")
    assert np.array_equal(out["labels"], model.predict(X))
    assert np.allclose(out["codes"], model.transform(X), atol=1e-6) and np.allclose(
        out["p"], model.predict_proba(X), atol=1e-6
    )
    again = DeepClusterer.load(tmp_path / "model")
    assert np.array_equal(again.labels_, model.labels_) and again.history_ == model.history_
    assert np.array_equal(again.transform(X), model.transform(X))


def test_saving_over_another_model_is_refused_unless_asked(blobs, tmp_path):
    model = quick("kmeans").fit(blobs[0])
    model.save(tmp_path / "m")
    with pytest.raises(OutputError, match="finished run"):
        model.save(tmp_path / "m")
    model.save(tmp_path / "m", overwrite=True)


@pytest.mark.parametrize("damage", ["model.safetensors", "run.json", "labels.npy"])
def test_a_damaged_model_is_refused(blobs, tmp_path, damage):
    quick("kmeans").fit(blobs[0]).save(tmp_path / "m")
    path = tmp_path / "m" / damage
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ResumeError):
        DeepClusterer.load(tmp_path / "m")


def test_a_pickle_is_never_loaded(blobs, tmp_path):
    import pickle

    quick("kmeans").fit(blobs[0]).save(tmp_path / "m")

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    for name in ("model.safetensors", "labels.npy"):
        (tmp_path / "m" / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ResumeError):
            DeepClusterer.load(tmp_path / "m")
    assert not (tmp_path / "exploded").exists()


def test_checkpoint_continues_where_a_fit_stopped(blobs, tmp_path, monkeypatch):
    X, _ = blobs
    expected = quick().fit(X).transform(X)
    from deepclust_accel.engine import engine

    original, calls = engine.Engine._epoch, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(engine.Engine, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quick(checkpoint=tmp_path / "c").fit(X)
    monkeypatch.undo()
    assert np.array_equal(quick(checkpoint=tmp_path / "c").fit(X).transform(X), expected)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ArgumentError, match="random_state to resume with, got None"):
        quick(checkpoint=tmp_path / "c").set_params(random_state=None).fit(X)


def test_batch_size_is_that_of_every_stage(blobs):
    for method, name in (("dvae", "pretrain_batch_size"), ("dvae", "batch_size"), ("ae-kmeans", "pretrain_batch_size")):
        assert getattr(quick(method, batch_size=64).fit(blobs[0]).model_.settings.params, name) == 64


def test_named_data_get_the_scaling_they_advise():
    assert quick("kmeans").fit("digits").model_.settings.scaling == open_data("digits").scaling != "none"
    assert quick("kmeans", scaling="none").fit("digits").model_.settings.scaling == "none"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["tensor", "memmap", "path", "images"])
def test_values_that_are_not_finite_are_refused_at_predict(blobs, tmp_path, bad, kind):
    X = np.tile(blobs[0], (2, 1))
    np.save(tmp_path / "x.npy", X)
    X[600, 2] = bad
    np.save(tmp_path / "bad.npy", X)
    given = {
        "tensor": lambda: torch.from_numpy(X),
        "memmap": lambda: np.load(tmp_path / "bad.npy", mmap_mode="r"),
        "path": lambda: tmp_path / "bad.npy",
        "images": lambda: X.reshape(800, 2, 3),
    }[kind]()
    good = np.load(tmp_path / "x.npy")
    model = quick("kmeans", scaling="standard").fit(good.reshape(800, 2, 3) if kind == "images" else good)
    for method in (model.predict, model.transform, model.predict_proba):
        with pytest.raises(DataError, match="row 600"):
            method(given)


def test_parameters_nest_clone_and_search(blobs):
    X, _ = blobs
    model = DeepClusterer("dvae", 4, params=DvaeParams(**QUICK_DVAE), random_state=0)
    assert model.get_params()["params__epochs"] == 3
    copy = clone(model).set_params(params__epochs=1)
    assert (copy.params.epochs, model.params.epochs) == (1, 3)
    pipeline = make_pipeline(StandardScaler(), quick("kmeans"))
    search = GridSearchCV(pipeline, {"deepclusterer__n_clusters": [2, 4]}, cv=2, scoring="adjusted_rand_score")
    assert search.fit(X, blobs[1]).best_params_ == {"deepclusterer__n_clusters": 4}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_clusters": 0}, ArgumentError, "at least 1, got 0"),
        ({"n_clusters": 401}, ArgumentError, r"rows \(400\), got 401"),
        ({"n_clusters": 2.5}, ArgumentError, "whole number"),
        ({"method": "dvea"}, PluginError, "did you mean 'dvae'"),
        ({"params": {"epoch": 3}}, ArgumentError, "did you mean 'epochs'"),
        ({"params": {"epochs": -1}}, ArgumentError, "at least 0, got -1"),
        ({"params": {"normalization": "row"}}, ArgumentError, "did you mean 'rows'"),
        ({"params": 5}, ArgumentError, "expected a mapping"),
        ({"scaling": "minmax"}, ArgumentError, "scaling: expected one of"),
        ({"random_state": -1}, ArgumentError, "random_state"),
        ({"random_state": "a"}, ArgumentError, "random_state"),
        ({"method": "kmeans", "params": None, "batch_size": 64}, ArgumentError, "batch_size: expected None"),
        ({"precision": "16"}, ArgumentError, "precision: expected"),
        ({"device": "gpu"}, ArgumentError, "device: expected"),
        ({"params": {"decoder": "bernoulli"}}, ArgumentError, "decoder: expected gaussian"),
    ],
)
def test_bad_settings_are_named(blobs, change, error, message):
    with pytest.raises(error, match=message):
        quick().set_params(**change).fit(blobs[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((5, 3), float("nan")), "finite"),
        (np.zeros((0, 3, 3)), "at least one row"),
        (torch.zeros(1, 4), "at least 2 rows"),
        (np.ma.masked_less(np.arange(10.0).reshape(5, 2), 3), "masked"),
        (torch.zeros(5), "2 to 4 dimensions"),
        (torch.zeros(5, 2, dtype=torch.complex64), "complex"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(DataError, match=message):
        quick(n_clusters=2).fit(rows)


def test_rows_of_another_shape_are_refused_at_predict(blobs):
    model = quick("kmeans").fit(torch.from_numpy(blobs[0]))
    with pytest.raises(DataError, match=r"expected rows of shape \(6,\)"):
        model.predict(torch.zeros(3, 5))


@pytest.mark.parametrize("k", [1, 12])
@pytest.mark.parametrize("method", ["dvae", "ae-kmeans", "ae-gmm", "kmeans", "gmm", "pca-kmeans"])
@pytest.mark.parametrize("rows", ["random", "constant-column", "duplicates"])
def test_extreme_numbers_of_clusters_and_odd_rows_stay_finite(method, k, rows):
    X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    if rows == "constant-column":
        X[:, 2] = 7
    if rows == "duplicates":
        X[6:] = X[:6]
    model = quick(method, n_clusters=k, scaling="standard").fit(X)
    assert np.isfinite(model.predict_proba(X)).all() and np.isfinite(model.transform(X)).all()
    assert set(model.labels_) <= set(range(k))


def test_sparse_rows_are_what_they_are_when_dense(blobs):
    X = np.where(blobs[0] > 0, blobs[0], 0)
    expected = quick("ae-kmeans").fit(X)
    model = quick("ae-kmeans").fit(open_data(sparse.csr_matrix(X)).source)
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    np.testing.assert_array_equal(model.predict(open_data(sparse.csc_array(X)).source), expected.labels_)


@pytest.mark.parametrize(
    ("rate", "message"),
    [(1e30, "dvae: expected finite codes"), (1e39, "'joint', after epoch 1 of 1: expected finite weights, got others")],
)
def test_weights_that_the_very_last_step_breaks_are_an_error_and_no_labels(blobs, rate, message):
    params = {**QUICK_DVAE, "pretrain_epochs": 1, "epochs": 1, "batch_size": 400, "learning_rate": rate}
    with pytest.raises(TrainingError, match=message):
        DeepClusterer("dvae", 4, params=params, random_state=0).fit(blobs[0])


def test_who_stops_reading_is_not_left_in_inference_mode(blobs):
    model = quick("ae-kmeans").fit(blobs[0]).model_
    parts = model.apply(open_data(blobs[0]).source)
    next(parts)
    assert not torch.is_inference_mode_enabled()
    parts.close()


def test_constant_data_are_one_point():
    X = np.full((20, 4), 3.0, np.float32)
    for method in ("dvae", "ae-kmeans", "kmeans", "gmm", "pca-kmeans"):
        assert len(set(quick(method, n_clusters=2).fit_predict(X))) == 1


def test_fits_in_threads_equal_those_one_after_the_other():
    from concurrent.futures import ThreadPoolExecutor

    rows = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)

    def codes(seed):
        params = {"hidden": (16,), "latent_dim": 2, "pretrain_epochs": 4}
        return DeepClusterer("ae-kmeans", 3, params=params, random_state=seed).fit(rows).transform(rows)

    alone = [codes(seed) for seed in (0, 1, 0, 1)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(codes, (0, 1, 0, 1)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
