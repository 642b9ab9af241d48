"""Building: without git, and from a source distribution."""

import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_commit_is_unknown_without_git(tmp_path, monkeypatch):
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    commit = runpy.run_path(str(ROOT / "setup.py"))["commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unknown"


def test_a_source_distribution_has_all_that_the_native_library_is_built_from(tmp_path):
    for name in ("setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("csrc", "deepclust_accel"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "setup.py", "-q", "sdist"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "dist").iterdir()
    names = {name.partition("/")[2] for name in tarfile.open(archive).getnames()}
    sources = {
        str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh")
    }
    assert sources | {"setup.py", "deepclust_accel/py.typed", "deepclust_accel/engine/engine.py"} <= names
    assert not [name for name in names if name.endswith(".so")]
