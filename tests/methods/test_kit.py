"""The conformance kit finds what it is there to find: each defect fails its check, and no other one."""

import random
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from deepclust_accel.methods import registry
from deepclust_accel.methods.ae_kmeans import AeKMeans
from deepclust_accel.methods.base import Group, MethodInfo, Params, Pass, Train, param
from deepclust_accel.methods.kmeans import KMeans
from deepclust_accel.testing.methods import check_method

QUICK = {"hidden": (16,), "latent_dim": 3, "pretrain_epochs": 20, "pretrain_batch_size": 32, "n_init": 3}
QUICK |= {"pretrain_learning_rate": 5e-3}


@pytest.fixture(autouse=True)
def registered_for_one_test_only(monkeypatch):
    monkeypatch.setattr(registry, "_local", {})


def problems(cls, params=QUICK, **options):
    return {check.name: check.problem for check in check_method(cls, params=params, **options) if check.problem}


def made(base=AeKMeans, **members):
    """A method with a defect, and otherwise as a notebook would have it."""
    info = MethodInfo("defective", "nobody", "ae-kmeans with a defect")
    return type(
        "Defective",
        (base,),
        {"info": info, "__doc__": "Cost: none. Assumes nothing.", "__module__": "__main__", **members},
    )


class Cluttered(AeKMeans):
    """Draws its start from NumPy's global generator."""

    def __init__(self, params, n_clusters, data):
        super().__init__(params, n_clusters, data)
        with torch.no_grad():
            self.encoder.layers[0].weight.mul_(np.random.rand())


class Loose(AeKMeans):
    """Has something trainable outside every part."""

    def __init__(self, params, n_clusters, data):
        super().__init__(params, n_clusters, data)
        self.scale = nn.Parameter(torch.ones(()))


class Forgetful(KMeans):
    """Keeps its centers where nobody saves them."""

    def _cluster(self, run):
        super()._cluster(run)
        self.found = self.centers.clone()
        self.centers.zero_()

    def assign(self, z):
        return nn.functional.one_hot(
            torch.cdist(z, getattr(self, "found", self.centers)).argmin(1), self.n_clusters
        ).float()


class Counting(AeKMeans):
    """Its loss depends on a counter that no snapshot holds."""

    steps = 0

    def _reconstruct(self, nets, batch, run):
        self.steps += 1
        return super()._reconstruct(nets, batch, run) * (1 + self.steps % 7)


class Crowding(AeKMeans):
    """A code depends on the rows beside it."""

    def embed(self, x):
        z = super().embed(x)
        return z - z.mean(0)


class Fussy(KMeans):
    """Falls over when there is one cluster."""

    def _cluster(self, run):
        super()._cluster(run)
        assert self.n_clusters > 1


class Chatty(KMeans):
    """Prints, and draws from Python's generator."""

    def _cluster(self, run):
        print("fitting", random.random())
        super()._cluster(run)


class Untrained(AeKMeans):
    """Forgets to train the decoder."""

    def pretraining(self):
        (stage,) = super().pretraining()
        return [replace(stage, groups={"main": Group(("encoder",))})]


class Blind(KMeans):
    """Puts every row where chance has it."""

    def assign(self, z):
        return nn.functional.one_hot((z.sum(1) * 1000).long() % self.n_clusters, self.n_clusters).float()


class Wide(KMeans):
    """Has a cluster too many."""

    def assign(self, z):
        return nn.functional.pad(super().assign(z), (0, 1))


@dataclass
class WrongParams(Params):
    """A default that its own bounds refuse."""

    n_init: int = param(0, "restarts", low=1)
    iterations: int = param(10, "")


@pytest.mark.parametrize(
    ("base", "params", "failing", "told"),
    [
        (Cluttered, QUICK, {"construction", "fit", "resume"}, "a change of NumPy's random state"),
        (Loose, QUICK, {"plan", "fit", "resume", "edges"}, "got loose scale"),
        (Forgetful, {"n_init": 1}, {"save"}, "got a tensor found; register_buffer it"),
        (Counting, QUICK, {"resume"}, "expected the same state, got another"),
        (Crowding, QUICK, {"predict"}, "expected a row alone to get the code it gets among others"),
        (Fussy, {"n_init": 1}, {"edges"}, "K = 1: expected a DcaccelError at worst, got AssertionError"),
        (Chatty, {"n_init": 1}, {"fit"}, "Python's random state"),
        (Blind, {"n_init": 1}, {"fit"}, "expected an ARI above 0.4"),
        (Wide, {"n_init": 1}, {"fit", "resume", "edges"}, "for each cluster, (240, 3), got (240, 4)"),
        (Untrained, QUICK, {"plan"}, "got decoder in none: it is never trained"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_defect_fails_its_check(base, params, failing, told):
    found = problems(made(base), params)
    after = {"predict", "save"} if "fit" in failing else set()  # cannot be looked at without a fit
    assert failing <= found.keys() <= failing | after
    assert told in " ".join(found.values()) and not any("\n" in problem for problem in found.values())


def test_settings_that_contradict_themselves_or_say_nothing_fail():
    found = problems(made(KMeans, Params=WrongParams), {"n_init": 1})
    assert "n_init: expected at least 1, got 0" in found["settings"] and found["card"].endswith("iterations")


def test_a_plan_for_parts_that_do_not_exist_fails():
    def plan(self):
        return [Train("train", None, {"main": Group(("nothing",))}, 1), Pass("k-means", self._cluster)]

    assert "expected parts among" in problems(made(plan=plan))["plan"]


def test_a_class_without_the_contract_fails_at_once():
    checks = list(check_method(made(KMeans, api_version=2)))
    assert [check.name for check in checks] == ["found"] and "expected api_version 1, got 2" in checks[0].problem
    assert [check.problem for check in check_method("no-such-method")][0].startswith("method: expected")


def test_a_plugin_that_reaches_into_the_project_fails(tmp_path, monkeypatch):
    package = tmp_path / "dcp_reaching"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from deepclust_accel.methods.base import MethodInfo\nfrom deepclust_accel.methods.kmeans import KMeans\n"
        "class Reaching(KMeans):\n    info = MethodInfo('reaching', 'nobody', 'k-means')\n"
    )
    (package / "deeper.py").write_text(
        "import deepclust_accel.engine.engine\nfrom deepclust_accel import ops, fitting\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from dcp_reaching import Reaching

    problem = problems(Reaching, {"n_init": 1})["imports"]
    assert "methods.kmeans.KMeans in __init__.py" in problem
    (package / "__init__.py").write_text("")
    problem = problems(Reaching, {"n_init": 1})["imports"]
    assert problem.endswith("got engine.engine, fitting in deeper.py")
    sys.modules.pop("dcp_reaching")
