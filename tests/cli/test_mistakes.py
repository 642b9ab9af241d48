"""Every mistake gets one line and exit code 2, and leaves nothing behind."""

import shutil

import numpy as np
import pytest
from command_line import refused

from deepclust_accel import DeepClusterer


def write(path, data):
    path.write_bytes(data)
    return path


MISTAKES = {
    "unknown method": (["fit", "dvea", "x.npy", "-k", "2", "--out", "r"], "did you mean 'dvae'"),
    "unknown setting": (["fit", "dvae", "x.npy", "-k", "2", "--out", "r", "--set", "epoch=1"], "did you mean 'epochs'"),
    "setting without value": (
        ["fit", "dvae", "x.npy", "-k", "2", "--out", "r", "--set", "epochs"],
        "expected name=value",
    ),
    "setting of wrong type": (
        ["fit", "dvae", "x.npy", "-k", "2", "--out", "r", "--set", "epochs=many"],
        "expected whole number",
    ),
    "no K": (["fit", "dvae", "x.npy", "--out", "r"], "-k: expected the number of clusters"),
    "K = 0": (["fit", "kmeans", "x.npy", "-k", "0", "--out", "r"], "at least 1, got 0"),
    "K > N": (["fit", "kmeans", "x.npy", "-k", "121", "--out", "r"], "rows (120), got 121"),
    "no out": (["fit", "kmeans", "x.npy", "-k", "2"], "--out: expected a folder"),
    "missing path": (["fit", "kmeans", "gone.npy", "-k", "2", "--out", "r"], "gone.npy"),
    "nearest data set": (["fit", "kmeans", "digit", "-k", "2", "--out", "r"], "digits"),
    "empty file": (["fit", "kmeans", "empty.npy", "-k", "2", "--out", "r"], "empty.npy"),
    "truncated file": (["fit", "kmeans", "cut.npy", "-k", "2", "--out", "r"], "cut.npy"),
    "objects": (["fit", "kmeans", "objects.npy", "-k", "2", "--out", "r"], "objects.npy"),
    "one row": (["fit", "kmeans", "one.npy", "-k", "1", "--out", "r"], "at least 2 rows"),
    "one column of numbers": (["fit", "kmeans", "flat.npy", "-k", "2", "--out", "r"], "2 to 4 dimensions"),
    "NaN": (["fit", "kmeans", "nan.npy", "-k", "2", "--out", "r"], "row 3, column 1"),
    "infinite": (["fit", "kmeans", "inf.npy", "-k", "2", "--out", "r"], "row 3, column 1"),
    "config missing": (["fit", "kmeans", "x.npy", "-c", "gone.toml", "--out", "r"], "gone.toml"),
    "config broken": (["fit", "kmeans", "x.npy", "-c", "bad.toml", "--out", "r"], "TOML"),
    "config key": (["fit", "kmeans", "x.npy", "-c", "key.toml", "--out", "r"], "did you mean 'seed'"),
    "labels too few": (
        ["fit", "kmeans", "x.npy", "-k", "2", "--labels", "few.npy", "--out", "r"],
        "shape (120,), got shape (3,)",
    ),
    "not a run": (["predict", ".", "x.npy"], "expected a run folder"),
    "other files in out": (["fit", "kmeans", "x.npy", "-k", "2", "--out", "."], "other files"),
    "out is a file": (["fit", "kmeans", "x.npy", "-k", "2", "--out", "x.npy"], "got a file"),
    "device": (["fit", "kmeans", "x.npy", "-k", "2", "--device", "cuda:7", "--out", "r"], "device: expected"),
    "scale": (["fit", "kmeans", "x.npy", "-k", "2", "--epochs-scale", "0", "--out", "r"], "epochs-scale"),
    "seed": (["fit", "kmeans", "x.npy", "-k", "2", "--seed", "-1", "--out", "r"], "seed"),
    "scale without end": (
        ["fit", "kmeans", "x.npy", "-k", "2", "--out", "r", "--epochs-scale", "inf"],
        "epochs-scale: expected",
    ),
    "resume and overwrite": (
        ["fit", "kmeans", "x.npy", "-k", "2", "--out", "r", "--resume", "--overwrite"],
        "got both",
    ),
    "config types": (["fit", "kmeans", "x.npy", "-c", "types.toml", "--out", "r"], "n_clusters: expected whole number"),
    "labels of fractions": (
        ["fit", "kmeans", "x.npy", "-k", "2", "--out", "r", "--labels", "x.npy"],
        "one label per row",
    ),
    "no memory": (
        ["fit", "dvae", "x.npy", "-k", "2", "--out", "r", "--set", "hidden=10000000000000"],
        "memory: expected enough",
    ),
    "not a number": (["fit", "kmeans", "x.npy", "-k", "abc", "--out", "r"], "see 'dcaccel fit --help'"),
    "unknown option": (["fit", "kmeans", "x.npy", "--clusters", "2"], "No such option: --clusters"),
    "missing argument": (["predict"], "see 'dcaccel predict --help'"),
    "unknown command": (["fitt"], "see 'dcaccel --help'"),
    "no command": (["methods"], "see 'dcaccel methods --help'"),
    "file as folder of the result": (["predict", "run", "x.npy", "--out", "x.npy/l.npy"], "cannot be written"),
    "folder as result": (["embed", "run", "x.npy", "--out", "run"], "got a folder"),
    "NaN at predict": (["predict", "run", "nan.npy", "--out", "l.npy"], "row 3"),
    "infinite at embed": (["embed", "run", "inf.npy", "--out", "z.npy"], "row 3"),
    "report of a model without rows": (["report", "model"], "saved by the estimator"),
}


@pytest.fixture(scope="module")
def desk(rows, finished, tmp_path_factory):
    """A folder with every broken file there is."""
    folder = tmp_path_factory.mktemp("desk")
    X = np.load(rows / "x.npy")
    np.save(folder / "x.npy", X)
    (
        np.save(folder / "one.npy", X[:1]),
        np.save(folder / "flat.npy", X[:, 0]),
        np.save(folder / "few.npy", np.zeros(3, int)),
    )
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        bad = X.copy()
        bad[3, 1] = value
        np.save(folder / f"{name}.npy", bad)
    np.save(folder / "objects.npy", np.array([[1, "a"], [2, "b"]], dtype=object), allow_pickle=True)
    write(folder / "empty.npy", b""), write(folder / "cut.npy", (folder / "x.npy").read_bytes()[:-100])
    write(folder / "types.toml", b'n_clusters = "two"\nepochs_scale = []\nseed = true')
    shutil.copytree(finished[0], folder / "run")
    DeepClusterer("kmeans", 2, random_state=0).fit(X).save(folder / "model")
    write(folder / "bad.toml", b"a = ["), write(folder / "key.toml", b"sead = 1")
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(desk, name):
    arguments, message = MISTAKES[name]
    before = sorted(desk.iterdir())
    line = refused(*arguments, cwd=desk)
    assert message in line and line.startswith("dcaccel: "), line
    assert sorted(desk.iterdir()) == before
