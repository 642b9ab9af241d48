"""Pretraining that is not done again: with the same bits, and only where it is the same pretraining."""

import numpy as np
import pytest
import torch

from deepclust_accel import DeepClusterer, fitting
from deepclust_accel.data import ArraySource, open_data
from deepclust_accel.errors import ArgumentError, FallbackWarning, OutputError, ResumeError

X = np.random.default_rng(0).random((120, 9)).astype(np.float32)
SHORT = {"hidden": [8], "latent_dim": 2, "pretrain_epochs": 2, "pretrain_batch_size": 50}


def settings(method="ae-kmeans", seed=0, scaling="unit", **params):
    known = fitting.resolve_params(method, [])[0].get_params()
    given = {k: v for k, v in (SHORT | {"epochs": 1, "layer_epochs": 1} | params).items() if k in known}
    return fitting.Settings(method, 3, fitting.resolve_params(method, [("test", given)])[0], scaling, seed, "cpu")


def fit(settings, cache=None, rows=X, **options):
    return fitting.fit(settings, ArraySource(rows), pretrained=cache, **options)


def same(a, b):
    left, right = a.model.network.state_dict(), b.model.network.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("method", ["ae-kmeans", "idec", "vade", "dcn"])
@pytest.mark.parametrize("pretraining", ["plain", "stacked"])
def test_taken_or_trained_the_bits_and_the_history_are_the_same(tmp_path, method, pretraining):
    chosen = settings(method, pretraining=pretraining)
    fit(settings("ae-gmm", pretraining=pretraining), tmp_path)  # another method has filled the cache
    alone, taken = fit(chosen), fit(chosen, tmp_path)
    stages = ["pretrain"] + (["pretrain-layer-1", "pretrain-layer-2"] if pretraining == "stacked" else [])
    assert sorted(taken.reused) == sorted(stages) and not alone.reused
    assert same(alone, taken)
    assert [h["loss"] for h in alone.history] == [h["loss"] for h in taken.history]
    assert {h["stage"] for h in taken.health if "reused" in h} == set(stages)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"scaling": "standard"},
        {"pretrain_epochs": 3},
        {"pretrain_batch_size": 40},
        {"pretrain_learning_rate": 0.01},
        {"hidden": [7]},
        {"latent_dim": 3},
        {"weight_init": "xavier"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_pretraining_is_trained_anew(tmp_path, other):
    fit(settings(), tmp_path)
    result = fit(settings(**other), tmp_path)
    assert not result.reused and same(result, fit(settings(**other)))


def test_other_rows_and_other_distortions_are_trained_anew(tmp_path):
    fit(settings(), tmp_path)
    assert not fit(settings(), tmp_path, rows=X[::-1].copy()).reused
    images = {"image_shape": [3, 3], "hidden": [8]}
    first = settings("dec-da", **images)
    fit(settings("dec"), tmp_path)
    assert not fit(first, tmp_path).reused and fit(first, tmp_path).reused
    assert not fit(settings("dec-da", rotation=25.0, **images), tmp_path).reused


@pytest.mark.parametrize(
    ("method", "one", "other"),
    [
        ("ae-cm", {"slope": 0.9}, {"slope": 0.0}),
        ("idec", {"slope": 0.9}, {"slope": 0.0}),
        ("dcec", {"image_shape": [1, 9]}, {"image_shape": [9, 1]}),
        ("dcec", {"image_shape": [1, 3, 3]}, {"image_shape": [3, 3, 1]}),
    ],
)
def test_networks_of_equal_tensors_that_are_not_equal_are_trained_anew(tmp_path, method, one, other):
    shared = {"channels": [2], "kernels": [3]} if method == "dcec" else {"latent_dim": 3}
    fit(settings(method, **one, **shared), tmp_path)
    assert fit(settings(method, **one, **shared), tmp_path).reused
    result = fit(settings(method, **other, **shared), tmp_path)
    assert not result.reused and same(result, fit(settings(method, **other, **shared)))


@pytest.mark.parametrize("method", ["ae-kmeans", "ae-cm"])
def test_first_weights_are_pytorchs_or_glorots(method):
    kept = {}
    for start in ("torch", "xavier"):
        shape = {"hidden": [400], "latent_dim": 30, "pretrain_epochs": 0}
        untrained = {"module_epochs": 0, "epochs": 0, "average_last_epoch": False}
        small = settings(method, weight_init=start, **shape, **untrained)
        network = fit(small).model.network
        kept[start] = [network.encoder.layers[0], network.decoder.layers[1]]
    for plain, glorot in zip(kept["torch"], kept["xavier"], strict=True):
        rows, columns = plain.weight.shape
        assert plain.weight.abs().max() <= columns**-0.5 and plain.bias.abs().max() <= columns**-0.5
        limit = (6 / (rows + columns)) ** 0.5  # Glorot and Bengio 2010, eq. 16
        assert 0.99 * limit < glorot.weight.abs().max() <= limit * (1 + 1e-6)
        assert bool(glorot.bias.any()) == (method == "ae-cm")  # its authors draw offsets too


def test_rows_that_are_shuffled_otherwise_are_trained_anew(tmp_path):
    for i, row in enumerate(X):
        (tmp_path / "shards").mkdir(exist_ok=True)
        np.save(tmp_path / "shards" / f"{i:03d}.npy", row[None])
    for i in range(300):  # so many files that single rows of them are slow to reach
        np.save(tmp_path / "shards" / f"x{i:03d}.npy", X[i % 120][None])
    shards = open_data(tmp_path / "shards").source
    rows = shards.take(np.arange(420)).numpy()
    fit(settings(), tmp_path / "cache", rows=rows)
    assert fit(settings(), tmp_path / "cache", rows=rows).reused
    assert not fitting.fit(settings(), shards, pretrained=tmp_path / "cache").reused


def test_clustering_settings_do_not_matter(tmp_path):
    fit(settings("idec"), tmp_path)
    assert fit(settings("idec", learning_rate=0.5, batch_size=33), tmp_path).reused


@pytest.mark.parametrize("damage", ["half of it", "a bit of a weight"])
def test_a_damaged_file_is_named_trained_and_written_again(tmp_path, damage):
    whole = fit(settings(), tmp_path)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    flipped = good[:-3] + bytes([good[-3] ^ 16]) + good[-2:]  # a whole file still, with another weight
    path.write_bytes(good[: len(good) // 2] if damage == "half of it" else flipped)
    with pytest.warns(FallbackWarning, match="got a damaged file") as said:
        again = fit(settings(), tmp_path)
    assert len(said) == 1 and path.name in str(said[0].message) and "\n" not in str(said[0].message)
    assert not again.reused and same(again, whole)
    (path,) = tmp_path.iterdir()  # the damaged one is gone
    assert fit(settings(), tmp_path).reused and same(fit(settings(), tmp_path), whole)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected a folder for pretrained networks"):
        fit(settings(), tmp_path / "file" / "cache")


def test_an_interrupted_fit_that_took_its_pretraining_resumes(tmp_path):
    from deepclust_accel.engine.monitor import Watcher

    class StopAfterPretraining(Watcher):
        def end_stage(self, seconds, health):
            raise KeyboardInterrupt

    chosen = settings("idec")
    fit(chosen, tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        fit(chosen, tmp_path / "cache", checkpoint=tmp_path / "run", watcher=StopAfterPretraining())
    again = fit(chosen, tmp_path / "cache", checkpoint=tmp_path / "run", resume=True)
    assert same(again, fit(chosen))


def test_networks_of_a_run_replace_pretraining(tmp_path):
    params = SHORT | {"pretrain_epochs": 1}
    first = DeepClusterer("ae-kmeans", 3, params=params, scaling="unit", random_state=5).fit(X)
    first.save(tmp_path / "ae")
    params = {"hidden": [8], "latent_dim": 2, "epochs": 0}
    model = DeepClusterer("idec", 3, params=params, scaling="unit", random_state=0, pretrained=tmp_path / "ae").fit(X)
    np.testing.assert_array_equal(model.transform(X), first.transform(X))
    assert not model.history_ and str(tmp_path / "ae") in model.health_[1]["reused"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"params": {"hidden": [7], "latent_dim": 2}}, ArgumentError, "expected decoder.layers.0.weight of shape"),
        ({"params": {"hidden": [8], "latent_dim": 2, "slope": 0.2}}, ArgumentError, "with slope=0.2, got 0.0"),
        ({"scaling": "standard"}, ArgumentError, "expected networks for scaling 'standard'"),
        (
            {"method": "kmeans", "params": {}},
            ArgumentError,
            "expected a method with pretraining to replace, got kmeans",
        ),
        ({"pretrained": "nowhere"}, ResumeError, "nowhere"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path, change, error, message):
    DeepClusterer("ae-kmeans", 3, params=SHORT, scaling="unit", random_state=0).fit(X).save(tmp_path / "ae")
    given = {
        "method": "idec",
        "params": {"hidden": [8], "latent_dim": 2},
        "scaling": "unit",
        "pretrained": tmp_path / "ae",
    }
    with pytest.raises(error, match=message):
        DeepClusterer(n_clusters=3, random_state=0, **(given | change)).fit(X)


@pytest.mark.parametrize(
    ("fact", "method", "params", "rows"),
    [
        ("unit_range", "idec", {"hidden": [8], "latent_dim": 2}, 2 * X - 1),
        ("image", "dcec", {"image_shape": [9, 1], "channels": [2], "kernels": [3], "latent_dim": 2}, X),
    ],
)
def test_networks_that_compute_something_else_are_refused(tmp_path, fact, method, params, rows):
    first = "ae-kmeans" if method == "idec" else method
    had = params | {"image_shape": [1, 9], "epochs": 1} if method == "dcec" else params
    DeepClusterer(first, 3, params=had | {"pretrain_epochs": 1}, random_state=0).fit(X).save(tmp_path / "other")
    with pytest.raises(ArgumentError, match=f"expected networks with {fact}="):
        DeepClusterer(method, 3, params=params, random_state=0, pretrained=tmp_path / "other").fit(rows)
