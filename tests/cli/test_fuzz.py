"""A few of the inputs of fuzz.py; `make fuzz` tries thousands."""

import time

import fuzz
import pytest
from command_line import Done


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_whatever_goes_in_a_line_comes_out(target, tmp_path):
    codes, problems = fuzz.run(target, 40, 1, tmp_path / "desk")
    assert not problems and codes.total() >= 20


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        (lambda: Done(1, "", "dcaccel: defect: KeyError: 'x'\n"), "exit code 1"),
        (lambda: Done(2, "", "one\ntwo\n"), "more than a line"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: time.sleep(60), "still at work"),
    ],
)
def test_it_notices(ends, problem, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "dcaccel", lambda *arguments, cwd: ends())
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    _, problems = fuzz.run("configs", 3, 0, tmp_path / "desk")
    assert problem in problems[-1]["problem"]
