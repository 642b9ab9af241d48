"""The command line ``dcaccel``: parse, call, print. Commands import what they need when they run, so help is quick."""

from __future__ import annotations

import sys

import typer

from deepclust_accel.cli import bench, doctor, fit, methods, predict, report
from deepclust_accel.cli.output import options, say
from deepclust_accel.errors import DcaccelError

__all__ = ["app", "main"]

app = typer.Typer(
    name="dcaccel",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Deep clustering of large data sets. Results go to stdout, everything else to stderr.",
)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("embed")(predict.embed)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.add_typer(methods.app, name="methods")
app.add_typer(bench.app, name="bench")


@app.callback()
def _root() -> None:
    """Deep clustering of large data sets. Results go to stdout, everything else to stderr."""


def main() -> None:
    """Run the command line; exit code 0 done, 1 a check failed or a defect of ours, 2 something to mend, 130 interrupted."""
    try:
        app()
    except DcaccelError as problem:
        _stop(f"{problem}", 2)
    except SystemExit as end:
        if end.code == 130:  # typer's code for Ctrl-C
            say("dcaccel: interrupted; a fit goes on where it stopped with the same command and --resume")
        raise
    except BrokenPipeError:
        sys.exit(0)
    except MemoryError as problem:
        _stop(f"memory: expected enough for this step, got none ({problem}); lower batch_size or use fewer rows", 2)
    except Exception as problem:  # noqa: BLE001 - the last resort: a defect of ours still deserves one clear line
        _stop(f"defect: {type(problem).__name__}: {problem}; run again with --debug and report what it prints", 1)


def _stop(message: str, code: int) -> None:
    if options.debug and sys.exc_info()[1] is not None:
        import traceback

        traceback.print_exc()
    say("dcaccel: " + " ".join(message.split()))
    sys.exit(code)
