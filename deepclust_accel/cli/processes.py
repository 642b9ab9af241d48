"""The same command once more in several processes, by torch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
import uuid

import typer

from deepclust_accel.errors import ArgumentError

__all__ = ["relaunch"]


def relaunch(processes: int) -> None:
    """Start this command line in ``processes`` processes of this machine, as torchrun does, and exit as they do.

    Threads are shared out unless OMP_NUM_THREADS says otherwise. Of several machines, start torchrun on each instead.
    """
    if processes < 1:
        raise ArgumentError(f"processes: expected a whole number of at least 1, got {processes}; 1 is the default")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # this process only waits; what there is to say rank 0 says
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "deepclust_accel", *_arguments())
    except ChildFailedError as failed:
        codes = [failure.exitcode for failure in failed.failures.values()]
        raise typer.Exit(max(codes)) from None
    except SignalException as got:
        raise typer.Exit(128 + got.sigval) from None
    raise typer.Exit(0)


def _arguments() -> list[str]:
    """Those of this process without --processes."""
    kept, words = [], iter(sys.argv[1:])
    for word in words:
        if word == "--processes":
            next(words, None)
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept
