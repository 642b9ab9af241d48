"""Whatever a file holds, opening it gives its rows or one DataError of one line; nothing is ever unpickled."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepclust_accel.data import ArraySource, open_data
from deepclust_accel.data.labels import as_labels
from deepclust_accel.errors import DataError

CLASSES = np.arange(20) % 3
ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


class Bomb:
    """Unpickling this leaves a trace."""

    fired = False

    def __reduce__(self):
        return setattr, (Bomb, "fired", True)


def refusal(spec, *words):
    with pytest.raises(DataError) as caught:
        open_data(spec)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "got" in message
    for word in words:
        assert word in message
    return message


def all_rows(data):
    return data.source.take(np.arange(data.source.spec.rows)).numpy()


def test_npy_is_mapped_not_read(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    for spec in (tmp_path / "a.npy", str(tmp_path / "a.npy")):
        data = open_data(spec)
        assert type(data.source.array) is np.memmap and not data.source.array.flags.writeable
        np.testing.assert_array_equal(all_rows(data), ROWS)
        assert (data.name, data.scaling) == ("a", "none")
        assert data.labels is data.image_shape is data.n_clusters is None
        same = open_data(ROWS).origin["fingerprint"]
        assert data.origin == {
            "kind": "file",
            "path": str(tmp_path / "a.npy"),
            "fingerprint": same,
            "shuffle": "all rows",
        }


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(ROWS), ROWS.astype(">f8"), ROWS.astype("f2"), ROWS > 0],
    ids=["fortran", "big endian", "half", "bool"],
)
def test_npy_of_other_layouts(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(all_rows(open_data(tmp_path / "a.npy")), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "y",
    [CLASSES, CLASSES[:, None], CLASSES * 1.0, np.array(["dog", "ant", "cat"])[CLASSES]],
    ids=["int", "column", "float", "text"],
)
def test_npz_with_labels(tmp_path, save, y):
    save(tmp_path / "a.npz", X=ROWS.reshape(20, 1, 3), y=y, other=np.zeros(3))
    data = open_data(tmp_path / "a.npz")
    np.testing.assert_array_equal(all_rows(data), ROWS.reshape(20, 1, 3))
    expected = CLASSES if y.dtype.kind != "U" else np.array([2, 0, 1])[CLASSES]
    np.testing.assert_array_equal(data.labels, expected)
    assert data.labels.dtype == np.int64 and data.n_clusters == 3 and data.image_shape == (1, 3)


def test_npz_labels_keep_their_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", X=ROWS, y=np.arange(20) * 10 - 1)
    assert open_data(tmp_path / "a.npz").labels.tolist() == list(range(-1, 199, 10))


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5\n3,-4e2\n",
        "a,b\n1,2.5\n3,-4e2\n",
        "\n\n1,2.5\r\n\r\n3,-4e2",
        "\ufeffa,b\n1,2.5\n3,-4e2",
        '"a, b","c"\n1,2.5\n3,-4e2\n',
        '"1","2.5"\n 3 , -4e2 \n',
        ",b\n1,2.5\n3,-4e2\n",
    ],
    ids=["plain", "header", "blank lines", "mark", "quoted header", "quoted", "nameless column"],
)
def test_csv(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    data = open_data(tmp_path / "a.csv")
    assert all_rows(data).tolist() == [[1.0, 2.5], [3.0, -400.0]]
    assert data.source.array.dtype == np.float64


def test_csv_of_one_column_or_one_row(tmp_path):
    (tmp_path / "a.csv").write_text("1\n2\n3\n")
    assert all_rows(open_data(tmp_path / "a.csv")).tolist() == [[1], [2], [3]]
    (tmp_path / "a.csv").write_text("1,2,3")
    assert all_rows(open_data(tmp_path / "a.csv")).tolist() == [[1, 2, 3]]


def test_csv_keeps_all_digits(tmp_path):
    np.savetxt(tmp_path / "a.csv", ROWS.astype(np.float64) / 3, delimiter=",", fmt="%.17g")
    np.testing.assert_array_equal(all_rows(open_data(tmp_path / "a.csv")), ROWS.astype(np.float64) / 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n\n3,dog\n", ["'dog'", "line 4", "entry 2"]),
        ("1,2\n3,\n", ["''", "line 2", "entry 2"]),
        ("1,2\n3\n", ["expected 2 entries", "got 1", "line 2"]),
        ("1,2\n3,4,5\n", ["expected 2 entries", "got 3", "line 2"]),
        ("a,b\n1,2,3\n4,5\n", ["expected 3 entries", "line 3"]),
        ("1,,3\n4,5,6\n", ["''", "line 1"]),
        ("\n1,x,3\n4,5,6\n", ["'x'", "line 2"]),
        ("1_000,2\n", ["1_000", "line 1"]),
        ("1;2\n3;4\n", ["'3;4'", "line 2"]),
        ("a,b\n", ["only a header"]),
        ("\n \n", ["blank"]),
        ("", ["empty file"]),
        ("# 1,2\n1,2\n", ["line 1"]),
    ],
)
def test_csv_faults_name_the_line(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    refusal(tmp_path / "a.csv", *words)


def test_csv_in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    refusal(tmp_path / "a.csv", "UTF-8")


def test_pickles_are_refused_unopened(tmp_path):
    objects = np.array([[Bomb(), 1]], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    refusal(tmp_path / "a.npy", "Python objects", "never unpickled")
    np.savez(tmp_path / "x.npz", X=objects)
    refusal(tmp_path / "x.npz", "Python objects")
    np.savez(tmp_path / "y.npz", X=ROWS, y=np.array([Bomb()] * 20))
    refusal(tmp_path / "y.npz", "y of Python objects")
    np.savez(tmp_path / "z.npz", X=ROWS, z=objects)
    open_data(tmp_path / "z.npz")  # never looked at
    for name in ("p.npy", "p.npz", "p.csv"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        refusal(tmp_path / name)
    assert not Bomb.fired


def test_paths_that_lead_nowhere(tmp_path, monkeypatch):
    np.save(tmp_path / "embedding.npy", ROWS)
    refusal(tmp_path / "embeding.npy", "did you mean 'embedding.npy'?")
    refusal(tmp_path / "no" / "such.npy", "check the path")
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / "empty", "files of one kind", "none")
    (tmp_path / "other.csv").write_text("1,2")
    refusal(tmp_path, "files of one kind", "ending in .csv and .npy")
    refusal("mnits", "did you mean 'mnist'?")
    refusal("Digits", "did you mean 'digits'?")
    refusal("zzz", "one of digits, mnist")
    refusal("", "one of digits")
    refusal("a\0b.npy", "none of that name")
    refusal("a\nb.npy", r"a\nb.npy")
    assert len(refusal("x" * 5000 + ".npy")) < 400
    refusal("~no_such_user_here/a.npy", "home")
    (tmp_path / "a.mat").write_bytes(b"x")
    refusal(tmp_path / "a.mat", ".npy, .npz, .csv", "'.mat'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("1")
    assert open_data("digits").origin["kind"] == "named"
    refusal("./digits", "no ending")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npy")
        refusal(tmp_path / "pipe.npy", "pipe")  # and does not hang


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, name):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(FILES[name])
    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so take the right away here
    monkeypatch.setattr(io, "open", refuse)
    refusal(tmp_path / name, "Permission denied")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    refusal(tmp_path / name, "empty file")


def test_files_of_the_wrong_content(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 4)))
    refusal(tmp_path / "a.npy", "at least one row")
    np.save(tmp_path / "a.npy", np.zeros(4))
    refusal(tmp_path / "a.npy", "2 to 4 dimensions")
    np.save(tmp_path / "a.npy", np.zeros((2, 2), complex))
    refusal(tmp_path / "a.npy", "complex")
    np.save(tmp_path / "a.npy", np.array([["a"]]))
    refusal(tmp_path / "a.npy", "text")
    np.savez(tmp_path / "a.npz", data=ROWS, target=ROWS)
    refusal(tmp_path / "a.npz", "named X", "data, target")
    np.savez(tmp_path / "a.npz", X=np.float32(3), y=np.arange(2))
    refusal(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    refusal(tmp_path / "b.npz", "numpy.savez")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("X", b"not an array")
    refusal(tmp_path / "c.npz", "raw bytes")
    with zipfile.ZipFile(tmp_path / "d.npz", "w"):
        pass
    refusal(tmp_path / "d.npz", "nothing")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.arange(19), "(20,)"),
        (np.zeros((20, 2)), "(20, 2)"),
        (np.arange(20) / 2, "float64"),
        (np.full(20, np.nan), "float64"),
        (np.zeros(20, complex), "complex"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, y, words):
    np.savez(tmp_path / "a.npz", X=ROWS, y=y)
    refusal(tmp_path / "a.npz", ": y: expected", words)


def test_labels_of_bytes_are_text():
    assert as_labels(np.array([b"b", b"a", b"b"]), 3, "y").tolist() == [1, 0, 1]


def test_a_header_that_promises_more_than_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(64))
    refusal(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X.npy", header.getvalue() + bytes(64))
    refusal(tmp_path / "a.npz")


def whole_files():
    files = {}
    for name, save in (
        ("a.npy", np.save),
        ("a.npz", lambda f, x: np.savez(f, X=x, y=np.arange(20) % 4)),
        ("b.npz", lambda f, x: np.savez_compressed(f, X=x, y=np.arange(20) % 4)),
        ("a.csv", lambda f, x: np.savetxt(f, x, delimiter=",", header="a,b,c", comments="")),
    ):
        stream = io.BytesIO()
        save(stream, ROWS)
        files[name] = stream.getvalue()
    return files


FILES = whole_files()


@pytest.mark.parametrize("name", sorted(FILES))
@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_rows_or_a_data_error(tmp_path, name, data):
    content = bytearray(FILES[name])
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        place = data.draw(st.integers(0, min(len(content), 400) - 1) | st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    path = Path(tmp_path, name)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        opened = open_data(path)
    except DataError as error:
        assert "\n" not in str(error) and "expected" in str(error)
    else:
        assert opened.source.spec.rows >= 1


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npz"])
def test_every_truncation_is_noticed(tmp_path, name):
    for length in range(0, len(FILES[name]), 7):
        (tmp_path / name).write_bytes(FILES[name][:length])
        refusal(tmp_path / name)


def test_arrays_tensors_and_sources_open_too():
    for spec in (ROWS, torch.from_numpy(ROWS), ArraySource(ROWS)):
        data = open_data(spec)
        np.testing.assert_array_equal(all_rows(data), ROWS)
        assert data.labels is None and data.origin["fingerprint"] == open_data(ROWS).origin["fingerprint"]
    assert open_data(ROWS).source.array is ROWS
    assert open_data(np.zeros((2, 8, 9, 3))).image_shape == (8, 9, 3)
    for spec in (None, 3, [[1.0]], {"a": 1}, b"digits"):
        refusal(spec, type(spec).__name__)
