"""The command line, run in this process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

SMALL = [
    "--set",
    "hidden=16",
    "--set",
    "latent_dim=3",
    "--set",
    "pretrain_epochs=2",
    "--set",
    "epochs=3",
    "--set",
    "warmup_epochs=1",
    "--set",
    "classifier_steps=2",
    "--set",
    "n_init=2",
]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def dcaccel(*arguments, cwd=None, env=None):
    """Run the command line in this process, which saves importing torch for each of a hundred calls."""
    from deepclust_accel import cli

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["dcaccel", *map(str, arguments)])
        patch.setattr(cli.output.options, "debug", False)
        for key, value in (env or {}).items():
            patch.setenv(key, value)
        if cwd:
            patch.chdir(cwd)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


def ok(*arguments, **options):
    done = dcaccel(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def refused(*arguments, **options):
    """The one line that a mistake gets."""
    done = dcaccel(*arguments, **options)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line
