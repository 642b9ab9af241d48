"""``dcaccel data``: facts about rows are those that were built into them, and converted rows are the same rows."""

import json

import numpy as np
import pytest
from command_line import dcaccel, ok, refused

from deepclust_accel.data import ArraySource, blocks, open_data
from deepclust_accel.data.checking import check_rows
from deepclust_accel.data.writing import write_rows

ROWS = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float32)


def said(*arguments):
    done = dcaccel(*arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def all_rows(spec):
    source = open_data(spec).source
    return source.take(np.arange(source.spec.rows)).numpy()


def test_info(rows):
    code, found = said("data", "info", rows / "x.npz")
    assert code == 0 and found["labels"] is True and found["shuffle"] == "all rows"
    assert (found["rows"], found["shape"], found["dtype"], found["bytes"]) == (120, [5], "float32", 2400)
    assert "float32" in ok("data", "info", rows / "x.npy").stdout


def test_check_finds_what_was_put_in(tmp_path):
    values = np.random.default_rng(1).normal(size=(300_000, 8))
    values[:, 3] = 7
    values[:, 6] = values[:, 1]
    values[:, 7] = values[:, 2]
    values[250_000, 7] += 1e-12  # so nearly equal that only a comparison tells
    values[[200_001, 299_999], 5] = np.nan
    values[299_998, [0, 4]] = [np.inf, 1e39]
    np.save(tmp_path / "x.npy", values)
    code, found = said("data", "check", tmp_path / "x.npy")
    assert code == 1 and found["healthy"] is False
    assert found["nan"] == {"count": 2, "row": 200_001, "column": 5}
    assert found["infinite"] == {"count": 1, "row": 299_998, "column": 0}
    assert found["too_large"] == {"count": 1, "row": 299_998, "column": 4}
    assert found["constant"] == {"count": 1, "columns": [3]}
    assert found["duplicates"] == {"count": 1, "columns": [[6, 1]]}
    finite = values[np.isfinite(values)]
    assert (found["low"], found["high"]) == (finite.min(), finite.max())
    text = dcaccel("data", "check", tmp_path / "x.npy")
    assert text.returncode == 1 and "nan: 2, first in row 200001, column 5" in text.stdout and "6 = 1" in text.stdout


def test_equal_columns_with_nan_and_three_alike():
    rows = np.random.default_rng(0).normal(size=(50, 5))
    rows[:, 4] = rows[:, 2] = rows[:, 0]
    rows[3, [0, 2, 4]] = np.nan
    assert check_rows(ArraySource(rows))["duplicates"]["columns"] == [[2, 0], [4, 0]]


@pytest.mark.parametrize(
    ("rows", "scaling"),
    [
        (ROWS, "none"),
        (np.abs(ROWS) / 10, "none"),
        (ROWS * np.logspace(0, 4, 7), "standard"),
        (ROWS + 1000, "standard"),
        (ROWS * 1e-6, "unit"),
        ((np.abs(ROWS) * 50).astype(np.uint8).reshape(-1, 1, 7), "unit"),
        (np.ones((9, 2)), "none"),
    ],
)
def test_advice(rows, scaling):
    found = check_rows(ArraySource(rows))
    assert found["advice"]["scaling"] == scaling and found["advice"]["why"]
    assert found["healthy"] == (rows.std() > 0)


def test_conversions_keep_every_row(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    ok("data", "convert", tmp_path / "a.npy", tmp_path / "b.parquet")
    assert said("data", "convert", tmp_path / "b.parquet", tmp_path / "c", "--shard-rows", 999)[1]["files"] == 6
    ok("data", "convert", tmp_path / "c", tmp_path / "d", "--format", "parquet", "--shard-rows", 2500)
    ok("data", "convert", tmp_path / "d", tmp_path / "e.npy")
    ok("data", "convert", tmp_path / "e.npy", tmp_path / "f.npy", "--dtype", "float64")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["000000.parquet", "000001.parquet"]
    for name in ("b.parquet", "c", "d", "e.npy"):
        found = all_rows(tmp_path / name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, ROWS)
    assert (tmp_path / "e.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), ROWS.astype(np.float64))
    assert not list(tmp_path.glob(".*"))


def test_labels_and_images_go_along(rows, tmp_path):
    ok("data", "convert", rows / "x.npz", tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x-labels.npy"), np.repeat([0, 1], 60))
    np.save(tmp_path / "i.npy", np.arange(96, dtype=np.uint8).reshape(4, 4, 6))
    ok("data", "convert", tmp_path / "i.npy", tmp_path / "shards", "--shard-rows", 3)
    np.testing.assert_array_equal(all_rows(tmp_path / "shards"), np.load(tmp_path / "i.npy"))
    assert "flat rows" in refused("data", "convert", tmp_path / "i.npy", tmp_path / "i.parquet")


def test_refusals_leave_nothing(rows, tmp_path):
    before = set(tmp_path.iterdir())
    for words, arguments in {
        "existing folder": (rows / "x.npy", tmp_path / "no" / "x.npy"),
        "got one that exists": (rows / "x.npy", rows / "x.npy"),
        "--dtype": (rows / "x.npy", tmp_path / "x.npy", "--dtype", "int8"),
        "--format": (rows / "x.npy", tmp_path / "x", "--format", "csv"),
        "--shard-rows": (rows / "x.npy", tmp_path / "x", "--shard-rows", 0),
    }.items():
        assert words in refused("data", "convert", *arguments)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["x.npy", "x.parquet", "shards"])
def test_a_source_that_breaks_half_way_leaves_nothing(tmp_path, name):
    class Broken(ArraySource):
        def take(self, index):
            if index.max() > 150_000:
                raise KeyboardInterrupt
            return super().take(index)

    with pytest.raises(KeyboardInterrupt):
        write_rows(Broken(np.zeros((200_000, 9), np.float32)), tmp_path / name, shard_rows=50_000)
    assert not list(tmp_path.iterdir())


def test_a_fit_in_blocks_says_so_and_predicts_as_from_memory(tmp_path, monkeypatch):
    ok("data", "convert", "digits", tmp_path / "x", "--format", "parquet", "--shard-rows", 100)
    monkeypatch.setattr(blocks, "_WINDOW_BYTES", 400 * 64)  # four files of 18
    fit = ["fit", "ae-kmeans", tmp_path / "x", "-k", 10, "--scaling", "unit"]
    small = ["--set", "hidden=16", "--set", "pretrain_epochs=2", "--set", "n_init=1"]
    for name in ("a", "b"):
        ok(*fit, "--out", tmp_path / name, *small)
    data = json.loads((tmp_path / "a" / "run.json").read_text())["data"]
    assert data["kind"] == "folder" and data["shuffle"].startswith("windows of 4 of 18 blocks drawn at random")
    assert said("data", "info", tmp_path / "x")[1]["shuffle"] == data["shuffle"]
    same = [(tmp_path / name / "probabilities.npy").read_bytes() for name in ("a", "b")]
    assert same[0] == same[1]
    np.save(tmp_path / "rows.npy", all_rows("digits"))
    for rows in ("x", "rows.npy"):
        ok("predict", tmp_path / "a", tmp_path / rows, "--out", tmp_path / f"{rows}.labels.npy")
        found = np.load(tmp_path / f"{rows}.labels.npy")
        np.testing.assert_array_equal(found, np.load(tmp_path / "a" / "labels.npy"))
    ok(*[*fit[:2], tmp_path / "rows.npy", *fit[3:]], "--out", tmp_path / "c", *small)
    assert (tmp_path / "c" / "probabilities.npy").read_bytes() != same[0]  # another order of rows
    line = refused("predict", tmp_path / "a", tmp_path / "x", "--out", tmp_path / "x" / "000003.parquet")
    assert "got the data" in line
    line = refused("predict", tmp_path / "a", f"{tmp_path / 'x'}::x", "--out", tmp_path / "x" / "000003.parquet")
    assert "got the data" in line


def test_a_type_too_narrow_for_a_value_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1.0, np.inf], [1e5, 0.0]]))
    assert "expected values that float16 can hold" in refused(
        "data", "convert", tmp_path / "x.npy", tmp_path / "y.npy", "--dtype", "float16"
    )
    assert not (tmp_path / "y.npy").exists()
    ok("data", "convert", tmp_path / "x.npy", tmp_path / "y.npy", "--dtype", "float32")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.load(tmp_path / "x.npy"))
