"""Rows, and a finished run of them."""

import json

import numpy as np
import pytest
from command_line import SMALL, ok


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    X = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
    X[:60] += 4
    np.savez(folder / "x.npz", X=X, y=np.repeat([0, 1], 60))
    np.save(folder / "x.npy", X)
    return folder


@pytest.fixture(scope="session")
def finished(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    done = ok("fit", "dvae", rows / "x.npz", "-k", 2, "--out", out, "--scaling", "standard", "--json", *SMALL)
    return out, json.loads(done.stdout), done.stderr
