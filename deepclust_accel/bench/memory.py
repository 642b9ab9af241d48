"""Peak memory of one provider at one size, in a fresh process; and how much memory there is to use.

``python -m deepclust_accel.bench.memory OPERATOR PROVIDER ROWS THREADS`` is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from deepclust_accel.bench.cases import CASES
from deepclust_accel.bench.providers import PROVIDERS, first_line
from deepclust_accel.engine.memory import forget_peak, resident
from deepclust_accel.engine.memory import peak as process_peak

_STATUS = Path("/proc/self/status")
_SMALL = 16  # rows of a first run that loads libraries and starts threads


def available() -> int:
    """Bytes that can be used without swapping, under the limit of the container if there is one."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else max(0, min(free, int(limit) - int(used)))
    except (OSError, StopIteration, ValueError):
        return free


def peak(operator: str, provider: str, rows: int) -> tuple[int | None, str]:
    """Bytes above the inputs at the peak of forward + backward; or None and the reason."""
    if not _STATUS.exists():
        return None, "memory is measured on Linux only"
    command = [sys.executable, "-m", __name__, operator, provider, str(rows), str(torch.get_num_threads())]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    lines = done.stdout.strip().splitlines()  # the last is ours; compilers may have printed before
    if done.returncode or not lines:
        why = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return None, f"the measuring process ended with {done.returncode}: {why[0][:160]}"
    answer = json.loads(lines[-1])
    return answer["peak_bytes"], answer["reason"]


def measure_here(operator: str, name: str, rows: int) -> int:
    """Run one provider forward and backward in this process and return its peak above the inputs, in bytes."""
    case, provider = CASES[operator], PROVIDERS[name]
    why = provider.missing(case)
    if why:
        raise RuntimeError(why)
    call = provider.build(case)
    with provider.context():
        first = case.inputs(rows if provider.compiles else _SMALL)  # compiling takes memory, and is not the question
        torch.autograd.grad(call(*first), first, case.gradient_from_above(len(first[0])))
        del first
        inputs, upstream = case.inputs(rows), case.gradient_from_above(rows)
        forget_peak()
        before = resident()
        gradients = torch.autograd.grad(call(*inputs), inputs, upstream)
        after = process_peak()
    del gradients
    return max(0, after - before)


def _main(arguments: list[str]) -> None:
    operator, provider, rows, threads = arguments
    torch.set_num_threads(int(threads))
    answer: dict[str, object] = {"peak_bytes": None, "reason": ""}
    try:
        answer["peak_bytes"] = measure_here(operator, provider, int(rows))
    except Exception as error:  # the parent has a table to fill: it wants the reason, not a traceback
        answer["reason"] = first_line(error)
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    _main(sys.argv[1:])
