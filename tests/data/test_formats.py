"""The same rows in every format are the same rows: batches, fits and predictions; damage is one DataError of one line."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import scipy.sparse

from deepclust_accel import fitting
from deepclust_accel.config import from_mapping
from deepclust_accel.data import ArraySource, Loader, open_data
from deepclust_accel.errors import DataError
from deepclust_accel.methods import registry

N, D = 97, 5
ROWS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
ROWS[ROWS < 0.3] = 0  # so that sparse matrices have something to leave out
ROWS[:40] += 3
PARTS = np.split(ROWS, [30, 31, 80])
NAMES = list("abcde")


def table_of(rows):
    return pa.table(dict(zip(NAMES, rows.T, strict=True)))


def lists_of(rows, kind):
    return pa.table({"x": pa.array(list(rows), kind)})


def write_npy(folder):
    for i, part in enumerate(PARTS):
        np.save(folder / f"{i}.npy", part)
    (folder / "README.md").write_text("not rows")
    return folder


def write_npz(folder):
    for i, part in enumerate(PARTS):
        np.savez_compressed(folder / f"{i}.npz", X=part)
    return folder


def write_parquet(folder):
    for i, part in enumerate(PARTS):
        pa.parquet.write_table(table_of(part), folder / f"{i}.parquet", row_group_size=7)
    return folder


def write_one_parquet(folder):
    pa.parquet.write_table(table_of(ROWS), folder / "x.parquet", row_group_size=10)
    return folder / "x.parquet"


def write_fixed_lists(folder):
    pa.parquet.write_table(lists_of(ROWS, pa.list_(pa.float32(), D)), folder / "x.parquet", row_group_size=11)
    return folder / "x.parquet"


def write_lists(folder):
    pa.parquet.write_table(lists_of(ROWS, pa.list_(pa.float32())), folder / "x.parquet", row_group_size=11)
    return folder / "x.parquet"


def write_some_columns(folder):
    table = table_of(ROWS).append_column("name", pa.array(["row"] * N)).append_column("label", pa.array([1] * N))
    pa.parquet.write_table(table, folder / "x.parquet")
    return f"{folder / 'x.parquet'}::a,b,c,d,e"


def write_without_columns(folder):
    return write_some_columns(folder).replace("a,b,c,d,e", "-name,-label")


def write_feather(folder):
    pa.feather.write_feather(table_of(ROWS), folder / "x.feather", chunksize=20)
    return folder / "x.feather"


def write_stream(folder):
    with pa.ipc.new_stream(folder / "x.arrow", table_of(ROWS).schema) as sink:
        sink.write_table(table_of(ROWS), max_chunksize=9)
    return folder


def write_hdf5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("deep/rows", data=ROWS, chunks=(8, 2), compression="gzip")
        file.create_dataset("other", data=ROWS[:3])
    return f"{folder / 'x.h5'}::deep/rows"


def write_one_dataset(folder):
    with h5py.File(folder / "x.hdf5", "w") as file:
        file["rows"], file["labels"] = ROWS, np.zeros(N)
    return folder / "x.hdf5"


def write_sparse(folder):
    scipy.sparse.save_npz(folder / "x.npz", scipy.sparse.csc_array(ROWS))
    return folder / "x.npz"


def write_sparse_shards(folder):
    for i, part in enumerate(PARTS):
        kind = scipy.sparse.csr_matrix if i % 2 else scipy.sparse.csc_array
        scipy.sparse.save_npz(folder / f"{i}.npz", kind(part))
    return folder


def write_h5ad(folder, sparse=True):
    with h5py.File(folder / "x.h5ad", "w") as file:
        if sparse:
            matrix, group = scipy.sparse.csr_matrix(ROWS), file.create_group("X")
            group.attrs.update({"encoding-type": "csr_matrix", "shape": matrix.shape})
            group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        else:
            file["X"] = ROWS
        file["obs/cell"] = np.arange(N)
    return folder / "x.h5ad"


def write_dense_h5ad(folder):
    return write_h5ad(folder, sparse=False)


WRITERS = [
    write_npy,
    write_npz,
    write_parquet,
    write_one_parquet,
    write_fixed_lists,
    write_lists,
    write_some_columns,
    write_without_columns,
    write_feather,
    write_stream,
    write_hdf5,
    write_one_dataset,
    write_sparse,
    write_sparse_shards,
    write_h5ad,
    write_dense_h5ad,
]


@pytest.fixture(params=WRITERS, ids=lambda w: w.__name__.removeprefix("write_"))
def written(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture(scope="module")
def fitted():
    return fit(ArraySource(ROWS))


def fit(source):
    given = {"hidden": [8], "latent_dim": 2, "pretrain_epochs": 2, "epochs": 2, "n_init": 2, "batch_size": 16}
    params = from_mapping(registry.load("idec").Params, {k: v for k, v in given.items()} | {"pretrain_batch_size": 16})
    return fitting.fit(fitting.Settings("idec", 3, params, "standard"), source).model


@pytest.mark.parametrize("rows", [1023, 1024, 1025, 2500])
def test_columns_of_many_rows_come_side_by_side(tmp_path, rows):
    x = np.random.default_rng(1).normal(size=(rows, D)).astype(np.float32)
    pa.parquet.write_table(table_of(x), tmp_path / "x.parquet")
    np.testing.assert_array_equal(open_data(tmp_path / "x.parquet").source.take(np.arange(rows)).numpy(), x)


def test_a_column_whose_name_begins_like_another_is_taken_alone(tmp_path):
    pa.parquet.write_table(pa.table({"a.b": ROWS[:, 0], "a": ROWS[:, 1]}), tmp_path / "x.parquet")
    for part, columns in (("a", [1]), ("a.b", [0]), ("a,a.b", [1, 0])):
        found = open_data(f"{tmp_path / 'x.parquet'}::{part}").source.take(np.arange(N)).numpy()
        np.testing.assert_array_equal(found, ROWS[:, columns])


def test_a_folder_of_npz_brings_its_labels(tmp_path):
    names = np.array(["cat", "ant", "bee"])[np.arange(N) % 3]  # their numbers are those of all files together
    parts = np.split(names, [30, 31, 80])
    for i, (rows, labels) in enumerate(zip(PARTS, parts, strict=True)):
        np.savez(tmp_path / f"{i}.npz", X=rows, y=labels)
    np.testing.assert_array_equal(open_data(tmp_path).labels, np.array([2, 0, 1])[np.arange(N) % 3])
    np.savez(tmp_path / "1.npz", X=PARTS[1])
    refusal(tmp_path, "1.npz", "in every file of the folder or in none")
    np.savez(tmp_path / "1.npz", X=PARTS[1], y=parts[2])
    refusal(tmp_path, "one label per row")


def test_batches_are_those_of_the_array(written):
    data = open_data(written)
    source, array = data.source, ArraySource(ROWS)
    assert (source.spec.shape, source.spec.rows) == ((D,), N)
    assert data.origin["fingerprint"] == open_data(ROWS).origin["fingerprint"]
    assert data.origin["shuffle"] == "all rows" and data.labels is None
    for odd in ([], [0], [96, 0, 31, 30, 0, 29], range(N), reversed(range(N))):
        index = np.array(list(odd), dtype=np.int64)
        found = source.take(index)
        assert found.numpy().dtype == np.float32
        np.testing.assert_array_equal(found.numpy(), ROWS[index])
    for ours, theirs in zip(
        *(Loader(s, seed=3).epoch(stage=1, epoch=2, batch_size=10) for s in (source, array)), strict=True
    ):
        assert ours.x.equal(theirs.x) and ours.index.equal(theirs.index)


def test_fit_and_predictions_are_those_of_the_array(written, fitted):
    source = open_data(written).source
    model = fit(source)
    for name, tensor in model.network.state_dict().items():
        assert tensor.equal(fitted.network.state_dict()[name]), name
    np.testing.assert_array_equal(model.probabilities(source), fitted.probabilities(ArraySource(ROWS)))


def test_csv_folder_is_float64_as_a_csv_file_is(tmp_path):
    for i, part in enumerate(PARTS):
        pa.csv.write_csv(table_of(part.astype(float)), tmp_path / f"{i}.csv")
    (tmp_path / "one").mkdir()
    one = "\n".join([",".join(NAMES), *(",".join(map(repr, map(float, row))) for row in ROWS)])
    (tmp_path / "one" / "x.csv").write_text(one)
    expected = open_data(tmp_path / "one" / "x.csv").source.take(np.arange(N))
    assert open_data(tmp_path).source.take(np.arange(N)).equal(expected)
    picked = open_data(f"{tmp_path / 'one' / 'x.csv'}::e,a").source.take(np.arange(N))
    assert picked.equal(expected[:, [4, 0]])
    (tmp_path / "one" / "x.csv").write_text("1,2\n3,4.5\n")
    assert open_data(tmp_path / "one").source.take(np.arange(2)).tolist() == [[1, 2], [3, 4.5]]


def test_columns_of_several_types_become_the_smallest_that_holds_them(tmp_path):
    table = pa.table({"a": pa.array([1, 200], pa.uint8()), "b": pa.array([-1, 300], pa.int16()), "c": [True, False]})
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    source = open_data(tmp_path / "x.parquet").source
    assert source.take(np.arange(2)).tolist() == [[1, -1, 1], [200, 300, 0]] and source.dtype == np.int16


def test_a_missing_float_is_nan_and_a_missing_integer_is_refused(tmp_path):
    pa.parquet.write_table(pa.table({"a": [1.0, None], "b": [1.0, 2.0]}), tmp_path / "x.parquet")
    found = open_data(tmp_path / "x.parquet").source.take(np.arange(2)).numpy()
    np.testing.assert_array_equal(found, [[1, 1], [np.nan, 2]])
    pa.parquet.write_table(pa.table({"a": [1, 2, None], "b": [1, 2, 3]}), tmp_path / "x.parquet", row_group_size=2)
    refusal(tmp_path / "x.parquet", "column 'a'", "missing value in row 2")


def refusal(spec, *words):
    with pytest.raises(DataError) as caught:
        data = open_data(spec)
        data.source.take(np.arange(data.source.spec.rows))
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "got" in message and ";" in message
    for word in words:
        assert word in message, message


def bad_table(path, **columns):
    pa.parquet.write_table(pa.table(columns), path)
    return path


def test_tables_that_are_no_rows(tmp_path):
    path = tmp_path / "x.parquet"
    refusal(bad_table(path, a=[1.0], s=["text"]), "'s' of string", f"{path}::a,b", "::-c")
    refusal(bad_table(path, a=[1.0], label=[1]), "column named 'label'")
    refusal(bad_table(path, a=[1.0], x=[[1.0]]), "lists beside others")
    refusal(bad_table(path, x=[[1.0, 2.0], [1.0]]), "lists of 2 numbers", "got 1 in row 1")
    refusal(bad_table(path, x=[[1.0, 2.0], None]), "got nothing in row 1")
    refusal(bad_table(path, x=[[1, 2], [3, None]]), "missing value in row 1")
    refusal(bad_table(path, x=[[[1.0]]]), "numeric columns, got 'x' of list")
    refusal(bad_table(path, a=pa.array([], pa.float32())), "at least one row")
    refusal(f"{bad_table(path, alpha=[1.0])}::alhpa", "did you mean 'alpha'")
    refusal(f"{path}::alpha,-alpha", "one kind")
    refusal(f"{path}::-alpha", "at least one column")
    refusal(f"{path}::alpha,alpha", "different names")
    bad_table(tmp_path / "y.parquet", beta=[1.0])
    refusal(tmp_path, "y.parquet", "column 'alpha' of double, as in x.parquet", "got none")
    bad_table(tmp_path / "y.parquet", alpha=[1])
    refusal(tmp_path, "y.parquet", "got int64")


def test_strings_and_ragged_lines_in_csv_shards(tmp_path):
    (tmp_path / "0.csv").write_text("a,b\n1,2\n")
    (tmp_path / "1.csv").write_text("a,b\n1,two\n")
    refusal(tmp_path, "1.csv", "two")
    (tmp_path / "1.csv").write_text("a,b\n1,2\n1\n")
    refusal(tmp_path, "1.csv")
    (tmp_path / "1.csv").write_text("a,c\n1,2\n")
    refusal(tmp_path, "1.csv", "column 'b'")


@pytest.mark.parametrize("first", ["1.0,,3.0", "0,1,2", "a,2,c", "class,b,c"])
def test_a_first_line_that_is_refused_in_a_csv_is_refused_in_a_folder(tmp_path, first):
    (tmp_path / "x.csv").write_text(f"{first}\n4,5,6\n7,8,9\n")
    with pytest.raises(DataError) as alone:
        open_data(tmp_path / "x.csv")
    word = str(alone.value).partition(": ")[2].partition(";")[0].partition(" in line")[0]
    refusal(tmp_path, word.partition("got ")[2])
    (tmp_path / "x.csv").write_text("\n\na,b,c\n4,5,6\n")
    assert open_data(tmp_path).source.take(np.arange(1)).tolist() == [[4, 5, 6]]


def test_shards_that_do_not_fit_together(tmp_path):
    write_npy(tmp_path)
    for bad, word in ((ROWS[:, :4], "(4,)"), (ROWS.astype(float), "float64"), (ROWS[0], "shape (5,)")):
        np.save(tmp_path / "2.npy", bad)
        refusal(tmp_path, "2.npy", word)
    (tmp_path / "2.npy").write_bytes(b"")
    refusal(tmp_path, "2.npy", "empty file")
    np.save(tmp_path / "2.npy", ROWS)
    (tmp_path / "2.npy").write_bytes((tmp_path / "2.npy").read_bytes()[:-9])
    refusal(tmp_path, "2.npy", "truncated")
    refusal(f"{tmp_path}::a", "leave out '::a'")
    refusal(f"{tmp_path / '0.npy'}::a", "drop it")


@pytest.mark.parametrize("writer", [w for w in WRITERS if w is not write_npy], ids=lambda w: w.__name__)
def test_damage_is_one_line_or_the_same_rows(writer, tmp_path):
    spec = str(writer(tmp_path))
    path = sorted(p for p in tmp_path.iterdir() if p.suffix != ".md")[0]
    whole, generator = path.read_bytes(), np.random.default_rng(5)
    damaged = [b"", whole[: len(whole) // 2], whole[:-1], b"x" * len(whole)]
    for _ in range(20):
        bits = bytearray(whole)
        bits[generator.integers(len(bits))] ^= 1 << int(generator.integers(8))
        damaged.append(bytes(bits))
    for content in damaged:
        path.write_bytes(content)
        try:
            source = open_data(spec).source
            source.take(np.arange(source.spec.rows))  # formats without checksums may read other values
        except DataError as cause:
            assert "\n" not in str(cause) and "expected" in str(cause)


def test_hdf5_and_h5ad_that_are_no_rows(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["rows"], file["more"], file["words"] = ROWS, ROWS, ["a"]
    refusal(path, "one dataset with rows and columns", "2 (more, rows)", "::more")
    refusal(f"{path}::rwos", "did you mean 'rows'")
    refusal(f"{path}::words", "expected")
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file.create_group("X").attrs["encoding-type"] = "csc_matrix"
    refusal(tmp_path / "x.h5ad", "csc_matrix", "tocsr")
    refusal(f"{tmp_path / 'x.h5ad'}::raw", "leave out")
    path = write_h5ad(tmp_path)
    with h5py.File(path, "r+") as file:
        file["X/indices"][3] = 99
    refusal(path, "outside of the matrix")


def test_sparse_matrices_from_python_and_with_indices_that_lead_nowhere(tmp_path):
    for layout in (scipy.sparse.coo_array, scipy.sparse.csr_matrix):
        np.testing.assert_array_equal(open_data(layout(ROWS)).source.take(np.arange(N)).numpy(), ROWS)
    matrix = scipy.sparse.csr_array(ROWS)
    matrix.indices[0] = 77
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    refusal(tmp_path / "x.npz", "outside of the matrix")


@pytest.mark.parametrize(
    ("module", "extra", "writer"), [("pyarrow", "parquet", write_parquet), ("h5py", "hdf5", write_hdf5)]
)
def test_without_the_extra_a_line_says_how_to_get_it(module, extra, writer, tmp_path, monkeypatch):
    spec = writer(tmp_path)
    for name in (module, f"{module}.dataset"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    refusal(spec, f"expected {module} to be installed", f'pip install "deepclust_accel[{extra}]"')


def test_origin_can_be_written_to_json(written):
    assert json.loads(json.dumps(open_data(written).origin))["path"] == str(written)
