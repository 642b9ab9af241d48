"""dcaccel plugin, and what the listing says of plugins that do not work."""

import json
import sys

import pytest
from command_line import dcaccel, ok, refused

from deepclust_accel.methods import registry

BROKEN = """
print("a plugin that talks")
from deepclust_accel.methods.kmeans import KMeans
from deepclust_accel.methods.base import MethodInfo
class Sloppy(KMeans):
    info = MethodInfo("sloppy", "nobody, nowhere", "k-means that forgets")
    def assign(self, z): return super().assign(z) * 2
    def save(self): raise ValueError
class Falling(KMeans):
    info = MethodInfo("falling", "nobody, nowhere", "k-means that falls over")
    def plan(self):
        return [None][1:][0]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "dcp_sloppy.py").write_text(BROKEN)
    info = tmp_path / "dcp_sloppy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dcp-sloppy\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\nsloppy = dcp_sloppy:Sloppy\nlost = dcp_sloppy:Lost\nfalling = dcp_sloppy:Falling\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("dcp_sloppy", None)


def test_the_listing_names_the_reason_and_goes_on(site):
    rows = {row["name"]: row for row in json.loads(ok("methods", "list", "--json").stdout)["methods"]}
    assert "failed to import: AttributeError" in rows["lost"]["problem"]
    assert not rows["sloppy"]["problem"] and not rows["dvae"]["problem"]
    assert "failed to import: AttributeError" in ok("methods", "list").stdout


def test_a_failing_check_is_named_in_a_line_and_in_the_exit_code(site):
    done = dcaccel("plugin", "check", "sloppy", "--set", "n_init=2")
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert done.returncode == 1
    assert lines["predict"].startswith("FAIL") and "rows to sum to 1, got" in lines["predict"]
    assert lines["imports"].startswith("FAIL") and "methods.kmeans.KMeans in dcp_sloppy.py" in lines["imports"]
    assert lines["card"].startswith("FAIL")
    assert all(
        lines[name].startswith("ok") for name in ("found", "settings", "construction", "plan", "fit", "save", "resume")
    )
    assert len(lines) == 11


def test_an_error_in_the_code_of_a_plugin_is_its_own_with_the_line(site, tmp_path):
    done = dcaccel("fit", "falling", "digits", "-k", "10", "--out", str(tmp_path / "run"))
    where = f"dcp-sloppy 1 (dcp_sloppy.py:{len(BROKEN.splitlines())}, in plan): IndexError"
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(f"dcaccel: {where}")
    lines = dcaccel("plugin", "check", "falling", "--debug")
    assert f"(dcp_sloppy.py:{len(BROKEN.splitlines())}, in plan)" in lines.stdout
    assert "Traceback (most recent call last)" in lines.stderr


def test_checks_as_json():
    done = json.loads(ok("plugin", "check", "kmeans", "--json").stdout)
    assert done["passed"] and done["schema"] == "deepclust_accel.plugin_check"
    assert [check["name"] for check in done["checks"]][:2] == ["found", "imports"]
    assert all(check["asks"] and not check["problem"] for check in done["checks"])


def test_what_cannot_be_checked_fails_at_the_first_line(site):
    done = dcaccel("plugin", "check", "lost", "--json")
    (check,) = json.loads(done.stdout)["checks"]
    assert done.returncode == 1 and check["name"] == "found" and "failed to import" in check["problem"]
    assert "n_init" in refused("plugin", "check", "kmeans", "--set", "ninit=2")


def test_new_writes_a_plugin_under_its_name_and_never_over_something(tmp_path):
    files = json.loads(ok("plugin", "new", "deep-sea", "--json", cwd=tmp_path).stdout)["files"]
    assert sorted(files) == [
        "deep-sea/README.md",
        "deep-sea/pyproject.toml",
        "deep-sea/src/dcaccel_deep_sea.py",
        "deep-sea/tests/test_deep_sea.py",
    ]
    text = "".join((tmp_path / file).read_text() for file in files)
    assert (
        "tiny" not in text.lower()
        and "class DeepSea(Method)" in text
        and 'deep-sea = "dcaccel_deep_sea:DeepSea"' in text
    )
    before = {file: (tmp_path / file).read_bytes() for file in files}
    assert "expected a new folder" in refused("plugin", "new", "deep-sea", cwd=tmp_path)
    assert before == {file: (tmp_path / file).read_bytes() for file in files}
    ok("plugin", "new", "deep-sea", "--out", "elsewhere", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [("Deep_Sea", "small letters"), ("-a", ""), ("../up", "small letters"), ("dvae", "offered by deepclust-accel")],
)
def test_names_that_cannot_be_are_refused(tmp_path, name, told):
    assert told in refused("plugin", "new", "--", name, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
