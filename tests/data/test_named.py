"""Named sets come from the places promised, in the order promised, and are what their entry says."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from sklearn.datasets import fetch_openml
from sklearn.utils._param_validation import validate_params

from deepclust_accel.data import check_finite, describe, names, open_data
from deepclust_accel.data.named import load
from deepclust_accel.errors import DataError

HERE = os.environ.get("DCACCEL_DATA")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Empty folders in place of the user's, and no network."""
    data, cache = tmp_path / "data", tmp_path / "cache" / "deepclust_accel"
    data.mkdir()
    monkeypatch.setenv("DCACCEL_DATA", str(data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", no_network)
    return data, cache


def no_network(**_):
    raise OSError("name resolution failed\nsecond line")


def pendigits(seed=0):
    return np.random.default_rng(seed).integers(0, 101, (10992, 16)), np.arange(10992) % 10


def test_digits_need_nothing(places):
    data = open_data("digits", download=False)
    rows = data.source.take(np.arange(1797)).numpy()
    reference = sklearn.datasets.load_digits()
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, reference.data)
    np.testing.assert_array_equal(data.labels, reference.target)
    assert (data.name, data.scaling, data.image_shape, data.n_clusters) == ("digits", "unit", (8, 8), 10)
    assert data.origin == {
        "kind": "named",
        "name": "digits",
        "fingerprint": data.origin["fingerprint"],
        "shuffle": "all rows",
    }


def test_the_given_folder_comes_before_the_cache(places):
    data, cache = places
    cache.mkdir(parents=True)
    in_cache, given = pendigits(1), pendigits(2)
    np.savez(cache / "pendigits.npz", X=in_cache[0], y=in_cache[1])
    np.testing.assert_array_equal(load("pendigits")[1], in_cache[0])
    np.savez(data / "pendigits.npz", X=given[0], y=given[1])
    np.testing.assert_array_equal(load("pendigits")[1], given[0])


def test_images_given_as_images_are_flattened(places):
    np.savez(places[0] / "usps.npz", X=np.zeros((9298, 16, 16), np.float32), y=np.arange(9298) % 10)
    data = open_data("usps")
    assert data.source.spec.shape == (256,) and data.image_shape == (16, 16)


@pytest.mark.parametrize("change", ["rows", "columns", "classes", "no labels", "not finite", "text"])
def test_a_file_that_is_something_else_is_refused(places, change):
    rows, labels = pendigits()
    content = {
        "rows": {"X": rows[:-1], "y": labels[:-1]},
        "columns": {"X": rows[:, :-1], "y": labels},
        "classes": {"X": rows, "y": labels % 9},
        "no labels": {"X": rows},
        "not finite": {"X": np.where(rows == 0, np.nan, rows), "y": labels},
        "text": {"X": rows.astype(str), "y": labels},
    }
    path = places[0] / "pendigits.npz"
    np.savez(path, **content[change])
    with pytest.raises(DataError, match=r"expected pendigits with X \(10992, 16\) and y of 10 classes") as caught:
        open_data("pendigits")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_is_named_not_skipped(places):
    (places[0] / "pendigits.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(DataError, match="pendigits.npz"):
        open_data("pendigits")


def test_fetched_once_checked_compacted_and_kept(places, monkeypatch):
    rows, labels = pendigits()
    calls = []

    check = validate_params(fetch_openml._skl_parameter_constraints, prefer_skip_nested_validation=True)

    @check  # what scikit-learn itself refuses must not pass here
    def fetch(
        name=None, *, version="active", data_id=None, data_home=None, target_column="default-target", cache=True,
        return_X_y=False, as_frame="auto", n_retries=3, delay=1.0, parser="auto", read_csv_kwargs=None,
    ):  # fmt: skip
        calls.append((data_id, as_frame))
        return SimpleNamespace(data=rows.astype(np.float64), target=(labels + 1).astype(str).astype(object))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    first = open_data("pendigits")
    assert first.source.array.dtype == np.uint8
    np.testing.assert_array_equal(first.labels, labels)  # '10' does not sort before '2'
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", no_network)
    again = open_data("pendigits", download=False)
    np.testing.assert_array_equal(again.source.array, rows)
    assert again.origin == first.origin and calls == [(32, False)]
    assert [path.name for path in places[1].iterdir()] == ["pendigits.npz"]  # nothing half-written beside it


def test_a_wrong_download_is_refused_and_not_kept(places, monkeypatch):
    rows, labels = pendigits()
    short = SimpleNamespace(data=rows[:-5] * 1.0, target=labels[:-5])
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: short)
    with pytest.raises(DataError, match=r"openml.org data set 32.*got X \(10987, 16\)"):
        open_data("pendigits")
    assert not places[1].exists()


def test_a_cache_that_cannot_be_written_costs_a_warning_only(places, monkeypatch, caplog):
    rows, labels = pendigits()
    places[1].parent.write_text("a file where the cache folder should be")
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: SimpleNamespace(data=rows * 1.0, target=labels))
    assert open_data("pendigits").n_clusters == 10
    assert "fetched again" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(places, monkeypatch, caplog):
    def full(stream, **_):
        stream.write(b"PK half")
        raise OSError(28, "No space left on device")

    rows, labels = pendigits()
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: SimpleNamespace(data=rows * 1.0, target=labels))
    monkeypatch.setattr(np, "savez_compressed", full)
    assert open_data("pendigits").n_clusters == 10
    assert list(places[1].iterdir()) == [] and "No space left" in caplog.text


def test_without_network_it_says_where_to_put_the_file(places):
    with pytest.raises(DataError) as caught:
        open_data("mnist")
    message = str(caught.value)
    assert "\n" not in message and "name resolution failed" in message
    assert all(str(folder / "mnist.npz") in message for folder in places) and "(70000, 784)" in message
    for name, download in (("mnist", False), ("coil20", True)):
        with pytest.raises(DataError, match="put an .npz"):
            open_data(name, download=download)


def test_listing(places):
    listed = describe()
    assert [entry["name"] for entry in listed] == names()
    json.dumps(listed)
    assert [entry["name"] for entry in listed if entry["at_hand"]] == ["digits"]
    for entry in listed:
        height, width = entry["image_shape"] or (entry["columns"], 1)
        assert height * width == entry["columns"] and entry["scaling"] in ("none", "unit", "standard")
        assert entry["licence"] and entry["about"]
    with pytest.raises(DataError, match="did you mean 'pendigits'"):
        load("pendigit")


def test_listing_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from deepclust_accel.data import describe; describe(); "
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [name for name in names() if name != "digits"])
def test_real_files_are_what_the_registry_says(name):
    if HERE is None or not os.path.exists(os.path.join(HERE, f"{name}.npz")):
        pytest.skip(f"needs {name}.npz in $DCACCEL_DATA")
    data = open_data(name, download=False)
    low, high = check_finite(data.source)
    if data.scaling == "none":
        assert low >= 0  # words and TF-IDF
    if data.image_shape is not None:
        assert data.scaling == "unit" and (low, high) in {(0, 1), (0, 16), (0, 255)}


def test_digits_are_the_test_part_of_optdigits():
    if HERE is None or not os.path.exists(os.path.join(HERE, "optdigits.npz")):
        pytest.skip("needs optdigits.npz in $DCACCEL_DATA")
    part = open_data("optdigits", download=False)
    digits = open_data("digits")
    index = np.arange(3823, 5620)
    assert np.array_equal(part.source.take(index).numpy(), digits.source.take(np.arange(1797)).numpy())
    assert np.array_equal(part.labels[index], digits.labels)
