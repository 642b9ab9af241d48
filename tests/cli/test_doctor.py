"""What doctor finds when something is wrong."""

import json

import pytest
import torch
from command_line import dcaccel, ok, refused

from deepclust_accel import doctor, ops
from deepclust_accel.methods import registry
from deepclust_accel.ops import _define


def sick():
    done = dcaccel("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and not found["healthy"]
    assert dcaccel("doctor").returncode == 1  # as text as well
    return " ".join(found["problems"])


def test_a_library_that_cannot_be_opened_is_a_problem(monkeypatch):
    table = ops.report()
    table["wasserstein_similarity"]["cpu"] = "cannot open _native_cpu.so: undefined symbol"
    monkeypatch.setattr(ops, "report", lambda: table)
    assert "cannot open _native_cpu.so" in sick()


@pytest.mark.parametrize(("value", "told"), [(None, "failed: OSError"), (torch.nan, "relative error nan")])
def test_an_operator_that_fails_is_a_finding(monkeypatch, value, told):
    def broken(*arguments):
        if value is None:
            raise OSError("no such kernel")
        return arguments[0].sum() * (1 if arguments[0].dtype == torch.float64 else value)

    inputs = [torch.ones(3, 2, dtype=torch.float64)]
    monkeypatch.setitem(doctor._CASES, "wasserstein_similarity", lambda: (broken, inputs))
    assert told in sick()


def test_a_method_that_fails_to_import_is_a_problem(monkeypatch):
    entry = registry.Entry("lost", "plugin", "1", "nowhere:Lost")
    monkeypatch.setattr(registry, "entries", lambda: [entry])
    assert "method lost" in sick()


def test_an_unknown_backend_is_a_mistake(rows, tmp_path):
    token = _define._backend.set("natve")  # what DCACCEL_BACKEND sets when the package is imported
    try:
        for command in (["doctor"], ["fit", "dvae", rows / "x.npy", "-k", 2, "--out", tmp_path / "r"]):
            assert "DCACCEL_BACKEND: expected one of auto" in refused(*command)
    finally:
        _define._backend.reset(token)
    assert not (tmp_path / "r").exists()


def test_native_kernels_that_are_not_there_are_a_mistake(rows, tmp_path, monkeypatch):
    table = ops.report()
    table["wasserstein_similarity"] |= {"cpu": "not built", "cuda": "not built"}
    monkeypatch.setattr(ops, "report", lambda: table)
    command = ["fit", "dvae", rows / "x.npy", "-k", 2, "--out", tmp_path / "r"]
    assert "not built" in refused(*command, env={"DCACCEL_BACKEND": "native"})
    assert not (tmp_path / "r").exists()


def test_completion_still_works():
    assert "dcaccel" in ok(env={"_DCACCEL_COMPLETE": "source_bash"}).stdout
