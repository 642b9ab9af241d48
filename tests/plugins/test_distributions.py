"""Each distribution under plugins/ and a new one: installed on its own, away from the source, its own tests pass."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepclust_accel
from deepclust_accel.scaffold import TEMPLATE
from deepclust_accel.testing.methods import check_method

ROOT = Path(deepclust_accel.__file__).parent.parent
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def run(*command, cwd, site=None):
    """Run a command of this Python in a folder, with the plugins of another one visible, and return what it prints."""
    paths = os.pathsep.join(str(path) for path in (site, ROOT) if path)
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_TARGET": str(site or ""),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env={**os.environ, **offline, "PYTHONPATH": paths, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def installed(source, tmp_path):
    """Install a copy of a distribution into a folder of its own, without network; its tests are left beside it."""
    copy, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    run("pip", "install", "--quiet", ".", cwd=copy, site=site)
    shutil.rmtree(copy / "src")
    return copy, site


@pytest.mark.parametrize("name", PLUGINS)
def test_a_distribution_installs_and_passes_its_own_tests(name, tmp_path):
    copy, site = installed(ROOT / "plugins" / name, tmp_path)
    assert " passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=copy, site=site)
    shown = json.loads(run("deepclust_accel", "methods", "show", name, "--json", cwd=tmp_path, site=site))
    if shown["distributed"]:
        several_processes_have_the_gradients_of_one(name, tmp_path, site)


def several_processes_have_the_gradients_of_one(name, tmp_path, site):
    """As tests/ranks asks of built-in methods."""
    settings = {"hidden": [12], "latent_dim": 3, "pretrain_epochs": 1, "epochs": 1, "n_init": 3}
    found = []
    for ranks in (1, 2):
        (tmp_path / str(ranks)).mkdir()
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        worker = ROOT / "tests" / "ranks" / "worker.py"
        given = json.dumps(settings)
        run(*launch, worker, name, given, given, 48, tmp_path / str(ranks), cwd=tmp_path, site=site)
        with np.load(tmp_path / str(ranks) / f"{name}.npz") as file:
            found.append({key: file[key] for key in file})
    assert found[0].keys() == found[1].keys() and any("gradients" in key for key in found[0])
    for key, one in found[0].items():
        assert np.abs(found[1][key] - one).max() <= 1e-12 * np.abs(one).max() + 1e-15, key


def guide(kind):
    """The code blocks of the guide of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / "plugins" / "README.md").read_text(), re.M | re.S)


def test_the_guide_shows_the_plugin_that_is_written():
    pairs = {
        "pyproject.toml": guide("toml"),
        "src/dcaccel_tiny.py": guide("python")[:1],
        "tests/test_tiny.py": guide("python test"),
    }
    for file, (block,) in pairs.items():
        assert block in (TEMPLATE / file).read_text()
    checks = list(check_method("kmeans", params={"n_init": 1}))
    assert all(f"| {check.name} | {check.asks} |\n" in (ROOT / "plugins" / "README.md").read_text() for check in checks)


def test_every_command_of_the_guide_works_in_order(tmp_path):
    (commands,) = guide("sh")
    site, told = tmp_path / "site", ""
    for command in commands.splitlines():
        words = [
            word for word in command.split() if word != "-e"
        ]  # what is installed editable leaves traces outside site
        words = ["./tiny" if word == "tiny" and words[0] == "pip" else word for word in words]
        told += run(words[0].replace("dcaccel", "deepclust_accel"), *words[1:], cwd=tmp_path, site=site)
    assert "FAIL" not in told and len(re.findall("^ok ", told, re.M)) > 10
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()
    assert "2 passed" in run("pytest", "-q", "-p", "no:cacheprovider", "tiny", cwd=tmp_path, site=site)
    assert "tiny" in run("deepclust_accel", "methods", "list", cwd=tmp_path, site=site)


def test_python_of_the_guide_runs(tmp_path):
    code = "\n".join(guide("python"))
    found = "from sklearn.metrics import adjusted_rand_score\nassert adjusted_rand_score(y, labels) > 0.6"
    (tmp_path / "guide.py").write_text(f"{code}\n{found}\n")
    run("guide", cwd=tmp_path)


def test_a_name_with_hyphens_works_as_well(tmp_path):
    run("deepclust_accel", "plugin", "new", "my-own", cwd=tmp_path)
    copy, site = installed(tmp_path / "my-own", tmp_path)
    assert "2 passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=copy, site=site)
