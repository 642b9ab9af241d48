"""bench/compare.py: ratios and exit codes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "compare.py"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("bench_compare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recording(tmp_path):
    def make(name, seconds, *, share=0.5, cpu="one", status="ok", provider="native"):
        entry = {
            "operator": "op",
            "rows": 64,
            "provider": provider,
            "phase": "both",
            "status": status,
            "median_s": seconds,
            "share_of_matmul": share,
        }
        eager = {**entry, "provider": "eager", "median_s": 1.0 if name == "before" else 9.0, "status": "ok"}
        content = {"machine": {"cpu": cpu}, "matmul_gflops": {"median": 100.0}, "results": [entry, eager]}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    return make


@pytest.mark.parametrize(
    ("seconds", "options", "code"),
    [
        (0.100, [], 0),
        (0.109, [], 0),
        (0.111, [], 1),
        (0.050, [], 0),
        (0.111, ["--limit", "1.2"], 0),
        (0.100, ["--providers", "all"], 1),  # eager became nine times slower
        (0.200, ["--relative"], 0),  # the same share of a slower machine
    ],
)
def test_exit_code(compare, recording, capsys, seconds, options, code):
    assert compare.main([recording("before", 0.1), recording("after", seconds), *options]) == code
    table = capsys.readouterr().out
    assert ("SLOWER" in table) == bool(code)
    if not options:
        assert f"{seconds / 0.1:.3f}" in table and "9.000" in table


def test_no_longer_measurable_counts_as_slower(compare, recording, capsys):
    assert compare.main([recording("before", 0.1), recording("after", None, share=None, status="failed")]) == 1
    assert "failed" in capsys.readouterr().out
    assert compare.main([recording("before", None, share=None, status="failed"), recording("after", 0.1)]) == 2


def test_relative_compares_shares(compare, recording, capsys):
    files = [recording("before", 0.1, share=0.6), recording("after", 0.1, share=0.5)]
    assert compare.main([*files, "--relative"]) == 1
    assert "1.200" in capsys.readouterr().out


def test_another_machine_is_mentioned(compare, recording, capsys):
    compare.main([recording("before", 0.1), recording("after", 0.1, cpu="two")])
    assert "careful: cpu differs: one and two" in capsys.readouterr().out


def test_nothing_in_common(compare, recording, capsys):
    assert compare.main([recording("before", 0.1), recording("after", 0.1, provider="keops")]) == 2
    assert "nothing in common" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "not json", "{}", "[]", '{"results": [{}]}', '{"results": 3}'])
def test_unusable_recordings(recording, tmp_path, content):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    done = subprocess.run([sys.executable, SCRIPT, recording("before", 0.1), path], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}: expected a results.json") and done.stderr.count("\n") == 1
