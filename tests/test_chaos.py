"""Fits that are killed at random moments, and resumed until they are done; `make chaos` is the long version."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "chaos.py"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="bench/chaos.py is for Linux")
def test_killed_and_resumed_until_they_are_done_fits_have_the_same_bits(tmp_path):
    # in a process of its own: a fork of this one would inherit locks of its threads
    command = [sys.executable, SCRIPT, "--runs", "4", "--seed", "1", "--out", tmp_path / "result.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["equal"] == result["runs"] == 4 and not result["wrong"]
    assert result["killed"] >= 4 and result["killed_while_writing_a_snapshot"] >= 1
