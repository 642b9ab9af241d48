"""--compile: the same result to float tolerance, the same files, and a word where it cannot be done."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from deepclust_accel import DeepClusterer, fitting
from deepclust_accel.data import ArraySource
from deepclust_accel.engine.compiled import Compiled
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.errors import FallbackWarning, ResumeError
from deepclust_accel.nn.mlp import Mlp

X = np.random.default_rng(0).random((130, 9)).astype(np.float32)
SHORT = {"hidden": [8], "latent_dim": 2, "pretrain_epochs": 3, "pretrain_batch_size": 50, "epochs": 2, "batch_size": 50}


@pytest.fixture
def works():
    """Skips where torch.compile has no compiler to use."""
    try:
        torch.compile(torch.nn.Linear(2, 2))(torch.ones(3, 2))
    except Exception as cause:
        pytest.skip(f"torch.compile does not work here: {cause}")


def settings(compile, method="idec"):
    params = fitting.resolve_params(method, [("test", SHORT)])[0]
    return fitting.Settings(method, 3, params, "unit", 0, "cpu", compile=compile)


def state_of(result):
    return result.model.network.state_dict()


def test_compiled_or_not_the_result_is_the_same_and_so_are_its_names(works):
    plain, compiled = (fitting.fit(settings(on), ArraySource(X)) for on in (False, True))
    assert compiled.compiled == {"encoder": "compiled", "decoder": "compiled", "centers": "compiled"}
    assert plain.compiled == {}
    assert state_of(plain).keys() == state_of(compiled).keys()
    for name, value in state_of(plain).items():
        torch.testing.assert_close(state_of(compiled)[name], value, rtol=1e-3, atol=1e-4)


def test_an_interrupted_compiled_fit_resumes_to_the_same_bits(works, tmp_path):
    class StopInPretraining(Watcher):
        def end_epoch(self, record):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fitting.fit(settings(True), ArraySource(X), checkpoint=tmp_path, watcher=StopInPretraining())
    with pytest.raises(ResumeError, match="compile: was True, is None"):
        fitting.fit(settings(False), ArraySource(X), checkpoint=tmp_path, resume=True)
    resumed = fitting.fit(settings(True), ArraySource(X), checkpoint=tmp_path, resume=True)
    whole = fitting.fit(settings(True), ArraySource(X))
    assert all(torch.equal(state_of(whole)[name], value) for name, value in state_of(resumed).items())


def test_batches_of_many_sizes_have_one_graph_and_the_gradients_of_the_network(works):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    net = Mlp(5, 7, 3)
    compiled = Compiled("net", net)
    for rows in (50, 33, 20, 7, 50, 2):
        x = torch.randn(rows, 5)
        found = torch.autograd.grad(compiled(x).square().sum(), list(net.parameters()))
        expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert compiled.state == "compiled" and list(net.state_dict()) == ["layers.0.weight", "layers.0.bias"] + [
        "layers.1.weight",
        "layers.1.bias",
    ]


def test_random_numbers_are_those_of_the_network(works):
    net = Mlp(6, 40, 3, dropout=0.5).train()
    x = torch.ones(20, 6)
    torch.manual_seed(1)
    expected = net(x)
    torch.manual_seed(1)
    torch.testing.assert_close(Compiled("net", net)(x), expected)


class Another(nn.Module):
    """Each number is another program, as of a part that is given a function made on the spot."""

    def forward(self, x, number):
        return x * int(number)


def test_a_part_without_an_end_of_graphs_is_given_up_aloud(works, monkeypatch):
    from deepclust_accel.engine import compiled

    monkeypatch.setitem(compiled._DYNAMO, "recompile_limit", 3)
    part, x = Compiled("part", Another()), torch.ones(4, 2)
    with pytest.warns(FallbackWarning, match="expected to compile part, got") as said:
        for number in range(9):
            torch.testing.assert_close(part(x, str(number)), x * number)
    assert len(said) == 1 and "limit" in part.state and "\n" not in part.state


def test_what_the_part_itself_refuses_is_its_own_error(works):
    part = Compiled("net", Mlp(5, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            part(torch.ones(4, 6))
    assert part(torch.ones(4, 5)).shape == (4, 3)


def test_without_a_compiler_a_fit_goes_on_and_says_so_in_a_line_each(tmp_path):
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "deepclust_accel", "fit", "ae-kmeans", "digits", "-k", "10", "--quiet"]
    command += ["--set", "hidden=8", "--set", "pretrain_epochs=1"]
    for name, more in (("plain", []), ("compiled", ["--compile"])):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / name), *more],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all("no-such-compiler" in line for line in lines), done.stderr
    assert "expected to compile encoder, got" in lines[0] and "expected to compile decoder, got" in lines[1]
    plain, compiled = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("plain", "compiled"))
    assert not plain["compile"] and plain["compiled"] == {} and compiled["compile"]
    assert all("no-such-compiler" in why for why in compiled["compiled"].values())
    one, other = ((tmp_path / name / "labels.npy").read_bytes() for name in ("plain", "compiled"))
    assert one == other


def test_the_estimator_compiles_too(works):
    model = DeepClusterer("ae-kmeans", 3, params={"hidden": [8], "pretrain_epochs": 1}, compile=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        model.fit(X)
    assert model.model_.settings.compile and model.predict(X).shape == (130,)


def test_an_earlier_fit_of_the_process_does_not_change_the_bits(works):
    torch._dynamo.reset()
    first = fitting.fit(settings(True), ArraySource(X))
    fitting.fit(settings(True), ArraySource(np.random.default_rng(1).random((77, 5)).astype(np.float32)))
    again = fitting.fit(settings(True), ArraySource(X))
    assert all(torch.equal(state_of(first)[name], value) for name, value in state_of(again).items())


def test_layers_pretrained_one_by_one_are_compiled_too(works):
    params = fitting.resolve_params("dec", [("test", {**SHORT, "hidden": [8, 7, 6], "pretraining": "stacked"})])[0]
    result = fitting.fit(fitting.Settings("dec", 3, params, "unit", 0, "cpu", compile=True), ArraySource(X))
    assert set(result.compiled.values()) == {"compiled"}


def test_mixed_precision_is_compiled_too(works):
    chosen = fitting.Settings(
        "ae-kmeans",
        3,
        fitting.resolve_params("ae-kmeans", [("test", {"hidden": [8], "pretrain_epochs": 1})])[0],
        "unit",
        0,
        "cpu",
        "bf16-mixed",
        True,
    )
    result = fitting.fit(chosen, ArraySource(X))
    assert set(result.compiled.values()) == {"compiled"}
