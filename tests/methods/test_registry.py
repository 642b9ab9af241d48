"""Plugins as a stranger's distribution offers them: fabricated dist-info folders, good and bad."""

import subprocess
import sys

import pytest

from deepclust_accel.errors import PluginError
from deepclust_accel.methods import registry

GOOD = """
from dataclasses import dataclass
import torch
from deepclust_accel.methods.base import Method, MethodInfo, Params, Pass
@dataclass
class P(Params):
    pass
class Good(Method):
    info = MethodInfo("good", "nobody, nowhere")
    Params = P
    def plan(self): return [Pass("nothing", lambda run: None)]
    def embed(self, x): return x.flatten(1)
    def assign(self, z): return torch.nn.functional.one_hot(torch.zeros(len(z), dtype=torch.int64), self.n_clusters).float()
class Old(Good):
    api_version = 0
class Empty:
    api_version = 1
"""


def distribution(folder, name, module, code, offers):
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = "".join(f"{method} = {module}:{cls}\n" for method, cls in offers.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}")


@pytest.fixture
def site(tmp_path, monkeypatch):
    distribution(
        tmp_path, "dcp-good", "dcp_good", GOOD, {"good": "Good", "old": "Old", "empty": "Empty", "shared": "Good"}
    )
    distribution(tmp_path, "dcp-bad", "dcp_bad", "import does_not_exist", {"broken": "Broken", "shared": "Broken"})
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("dcp_good", "dcp_bad"):
        sys.modules.pop(name, None)


def test_listing_imports_nothing_and_shows_every_problem(site):
    rows = {(e.name, e.distribution): e for e in registry.entries()}
    assert rows["good", "dcp-good"].version == "1.2" and not rows["good", "dcp-good"].problem
    assert (
        rows["shared", "dcp-bad"].problem
        == rows["shared", "dcp-good"].problem
        == "offered by dcp-bad and dcp-good; uninstall one"
    )
    assert ("dvae", "deepclust-accel") in rows
    assert "dcp_good" not in sys.modules and "dcp_bad" not in sys.modules


def test_a_good_plugin_loads_and_fits(site):
    import numpy as np

    from deepclust_accel import DeepClusterer

    assert registry.load("good").__name__ == "Good"
    assert set(DeepClusterer("good", 2).fit_predict(np.random.default_rng(0).normal(size=(9, 2)))) == {0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "broken",
            r"method 'broken' \(dcp-bad 1.2, dcp_bad:Broken\) failed to import: ModuleNotFoundError: No module named 'does_not_exist'",
        ),
        ("shared", "method 'shared' is offered by dcp-bad and dcp-good; uninstall one"),
        ("old", r"expected api_version 1, got 0"),
        ("empty", "without info, Params, plan, embed, assign"),
        ("goood", "did you mean 'good'"),
        ("zzzz", "dcaccel methods list"),
    ],
)
def test_what_cannot_be_used_says_why(site, name, message):
    with pytest.raises(PluginError, match=message):
        registry.load(name)


def test_a_broken_plugin_stops_nothing_else(site):
    assert registry.load("dvae").info.name == "dvae"


def test_examining_adds_the_reason_why_each_cannot_be_used(site):
    rows = {(e.name, e.distribution): registry.examine(e).problem for e in registry.entries()}
    assert "failed to import: ModuleNotFoundError" in rows["broken", "dcp-bad"]
    assert "expected api_version 1, got 0" in rows["old", "dcp-good"]
    assert "uninstall one" in rows["shared", "dcp-good"] and "uninstall one" in rows["shared", "dcp-bad"]
    assert rows["good", "dcp-good"] == rows["dvae", "deepclust-accel"] == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(3)", "failed to import: SystemExit: 3"),
        ("", "failed to import: AttributeError"),
        ("Method = None", "expected api_version 1, got None"),
    ],
)
def test_whatever_a_plugin_does_at_import_is_its_own_problem(tmp_path, monkeypatch, code, reason):
    distribution(tmp_path, "dcp-wild", "dcp_wild", code, {"wild": "Method"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "dcp_wild", raising=False)
    (wild,) = (registry.examine(e) for e in registry.entries() if e.name == "wild")
    assert reason in wild.problem
    sys.modules.pop("dcp_wild", None)


def test_damaged_metadata_hide_nothing_else(site):
    torn = site / "torn-1.dist-info"
    torn.mkdir()
    (torn / "entry_points.txt").write_text(f"[{registry.GROUP}]\nno equals sign\n")
    (site / "dcp_good-1.2.dist-info" / "METADATA").unlink()
    names = {(e.name, e.distribution, e.version) for e in registry.entries()}
    assert ("good", "unknown", "unknown") in names and ("dvae", "deepclust-accel") in {n[:2] for n in names}
    assert registry.load("good").__name__ == "Good"


def test_an_allow_list_hides_the_rest(site, monkeypatch):
    monkeypatch.setenv("DCACCEL_PLUGINS", "dcp-bad")
    assert {e.distribution for e in registry.entries()} == {"deepclust-accel", "dcp-bad"}


def test_registering_in_a_process_is_visible_and_cannot_shadow(site, monkeypatch):
    monkeypatch.setattr(registry, "_local", {})
    sys.path.insert(0, str(site))
    import dcp_good

    mine = type("Mine", (dcp_good.Good,), {"info": type(dcp_good.Good.info)("mine", "me")})
    registry.register(mine)
    assert registry.load("mine") is mine
    assert [e.distribution for e in registry.entries() if e.name == "mine"] == ["this process"]
    assert registry.register(mine) is mine
    with pytest.raises(PluginError, match="got that of Mine"):
        registry.register(type("Other", (mine,), {}))
    assert registry.load("mine") is mine
    with pytest.raises(PluginError, match="offered by"):
        registry.register(type("Fake", (dcp_good.Good,), {"info": type(dcp_good.Good.info)("dvae", "me")}))


def test_a_spawned_process_sees_the_same_plugins(site):
    code = "from deepclust_accel.methods import registry; print(registry.load('good').__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(site)})
    assert done.stdout == "Good\n", done.stderr
