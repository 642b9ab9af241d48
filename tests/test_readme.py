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


def test_make_targets_named_in_the_readme_exist():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_tables_are_those_of_the_recorded_results():
    script = Path(__file__).parent.parent / "bench" / "readme.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run python bench/readme.py"


def test_method_cards_are_those_of_the_docstrings():
    script = Path(__file__).parent.parent / "docs" / "cards.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run python docs/cards.py"
