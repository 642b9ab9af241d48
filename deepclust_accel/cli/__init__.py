"""The command line ``dcaccel``: parse, call, print. Commands import what they need when they run, so help is quick."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from deepclust_accel.cli import bench, data, doctor, fit, methods, plugin, predict, report
from deepclust_accel.cli.output import options, say
from deepclust_accel.errors import ArgumentError, DataError, DcaccelError, FallbackWarning, PluginError

__all__ = ["app", "main"]

# in torch's words
_NO_MEMORY = ("allocate memory", "enough memory", "out of memory", "calculation overflowed", "Overflow when unpacking")

app = typer.Typer(
    rich_markup_mode=None,
    name="dcaccel",
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
app.add_typer(plugin.app, name="plugin")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def _show_version(value: bool) -> None:
    if value:
        print(f"dcaccel {metadata.version('deepclust_accel')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")]


@app.callback()
def _root(version: Version = False) -> None:
    """Deep clustering of large data sets. Results go to stdout, everything else to stderr."""


def main() -> None:
    """Run the command line; exit code 0 done, 1 a check failed or a defect of ours, 2 something to mend, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None when it was closed
            stream.reconfigure(errors="replace")  # a × on an ASCII terminal is no reason to fail
    try:
        with _warnings_in_a_line():
            code = app(standalone_mode=False, prog_name="dcaccel") or 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except DcaccelError as problem:
        _stop(f"{problem}", 2)
    except BrokenPipeError:
        sys.exit(0)
    except MemoryError as problem:
        _stop(f"memory: expected enough for this step, got none ({problem}); lower batch_size or use fewer rows", 2)
    except Exception as problem:  # noqa: BLE001 - the last resort: a defect of ours still deserves one clear line
        if hasattr(problem, "format_message"):  # typer's own errors, whatever module its version keeps them in
            _stop(_usage(problem), 2)
        if isinstance(problem, (RuntimeError, TypeError)) and any(sign in str(problem) for sign in _NO_MEMORY):
            _stop("memory: expected enough for this step, got less; lower batch_size, the widths or the rows", 2)
        whose = _plugin_of(problem) or "defect"
        _stop(f"{whose}: {type(problem).__name__}: {problem}; run again with --debug and report what it prints", 1)
    if code == 130:  # typer's code for Ctrl-C
        resume = "; the same command with --resume goes on from the last snapshot" if sys.argv[1:2] == ["fit"] else ""
        say(f"dcaccel: interrupted{resume}")
    sys.exit(code)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Ours are for people; those of libraries look as they always do."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", FallbackWarning)
        show = warnings.showwarning

        def say_ours(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, FallbackWarning):
                if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                    say(f"dcaccel: {message}")
            else:
                show(message, category, *where, **more)

        warnings.showwarning = say_ours
        yield


def _usage(problem: Any) -> str:
    command = problem.ctx.command_path if getattr(problem, "ctx", None) else "dcaccel"
    return f"{problem.format_message().rstrip('.')}; see '{command} --help'"


def _plugin_of(problem: BaseException) -> str:
    """The plugin in whose code an error arose, and where; "" if in nobody's."""
    from traceback import extract_tb, walk_tb

    from deepclust_accel.methods import registry

    frames = [frame.f_globals.get("__name__", "").split(".")[0] for frame, _ in walk_tb(problem.__traceback__)]
    for entry in registry.entries():
        top = entry.target.partition(":")[0].split(".")[0]
        if top != "deepclust_accel" and top in frames:
            at = extract_tb(problem.__traceback__)[len(frames) - 1 - frames[::-1].index(top)]
            return f"{entry.distribution} {entry.version} ({Path(at.filename).name}:{at.lineno}, in {at.name})"
    return ""


def _stop(message: str, code: int) -> None:
    if options.debug and sys.exc_info()[1] is not None:
        import traceback

        traceback.print_exc()
    rank, mistake = os.environ.get("RANK", "0"), isinstance(sys.exc_info()[1], (ArgumentError, DataError, PluginError))
    # A mistake is found by all processes of a machine, and its first one says it; what else happens may happen to one.
    if not mistake or os.environ.get("LOCAL_RANK", "0") == "0":
        who = "dcaccel" if rank == "0" else f"dcaccel: rank {rank}"
        print(f"{who}: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)
