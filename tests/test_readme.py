"""Every example in the README runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]


def run(command, folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", [b for kind, b in BLOCKS if kind == "python"], ids=lambda b: b.split("\n")[0])
def test_python_examples_run(block, tmp_path):
    run([sys.executable, "-c", block], tmp_path)


def test_shell_examples_run_in_order(tmp_path):
    assert COMMANDS
    for command in COMMANDS:
        run(command.split(), tmp_path)


def test_the_method_in_the_plugin_guide_works(tmp_path):
    guide = (Path(__file__).parent.parent / "plugins" / "README.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", guide, re.M | re.S).group(1)
    run([sys.executable, "-c", code + USE], tmp_path)


USE = """
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from deepclust_accel import DeepClusterer
from deepclust_accel.methods import registry
registry.register(Tiny)
X, y = make_blobs(300, 8, centers=3, random_state=0)
model = DeepClusterer("tiny", 3, scaling="standard", random_state=0).fit(X)
assert adjusted_rand_score(y, model.labels_) > 0.9
assert {"loss", "pull"} <= set(model.history_[-1])
"""


def test_make_targets_named_in_the_readme_exist():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_tables_are_those_of_the_recorded_results():
    script = Path(__file__).parent.parent / "bench" / "readme.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run python bench/readme.py"
