"""What docs/several_processes.md tells to do on several machines, with two launchers on this one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

DOCS = (Path(__file__).parents[2] / "docs" / "several_processes.md").read_text()
FIT = [
    "-m",
    "deepclust_accel",
    "fit",
    "ae-kmeans",
    "digits",
    "-k",
    "10",
    "--quiet",
    "--set",
    "hidden=16",
    "--seed",
    "0",
]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def settings(batch, epochs):
    return ["--set", f"pretrain_batch_size={batch}", "--set", f"pretrain_epochs={epochs}"]


def meeting(kind, node):
    port = meeting.port
    if kind == "static":
        return [f"--node-rank={node}", "--master-addr=localhost", f"--master-port={port}"]
    return ["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=job7"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def launch(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["c10d", "static"])
def test_two_launchers_find_what_one_process_finds(tmp_path, kind):
    meeting.port = free_port()
    alone = launch(sys.executable, *FIT, *settings(256, 2), "--out", str(tmp_path / "one"))
    fit = [*FIT, *settings(128, 2), "--out", str(tmp_path / "two")]
    nodes = [launch(*TORCHRUN, "--nnodes=2", "--nproc-per-node=1", *meeting(kind, n), *fit) for n in range(2)]
    for process in (alone, *nodes):
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 0, said[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["status"] == "finished" and record["world_size"] == 2


def workers_of(launcher):
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


def until(running, out, epochs):
    history = out / "history.jsonl"
    while running.poll() is None and not (history.exists() and history.read_text().count("\n") >= epochs):
        time.sleep(0.02)
    assert running.poll() is None, running.communicate()[1][-3000:]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children of a process are read from /proc")
def test_a_worker_that_dies_is_started_again_and_the_run_is_finished(tmp_path):
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=1", *FIT, *settings(128, 8), "--resume"]
    running = launch(*command, "--out", str(tmp_path / "run"))
    until(running, tmp_path / "run", 2)
    os.kill(workers_of(running.pid)[0], signal.SIGKILL)
    said = running.communicate(timeout=240)[1]
    assert running.returncode == 0, said[-3000:]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert len(losses(tmp_path / "run")) == 8


def test_sigterm_to_the_launcher_leaves_a_snapshot(tmp_path):
    options = ["--shutdown-timeout=60", "--standalone", "--nproc-per-node=2"]
    running = launch(*TORCHRUN, *options, *FIT, *settings(128, 200), "--out", str(tmp_path / "run"))
    until(running, tmp_path / "run", 2)
    os.kill(running.pid, signal.SIGTERM)
    said = running.communicate(timeout=120)[1]
    assert "stopping at the end of this epoch" in said, said[-3000:]
    assert running.returncode not in (0, 2) and list((tmp_path / "run" / "checkpoint").glob("snapshot-000-*"))


def test_the_flags_that_the_page_names_exist():
    from torch.distributed.run import get_args_parser

    known = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    told = set(re.findall(r"--(?:nnodes|nproc|rdzv|node|master|max|standalone|shutdown)[\w-]*", DOCS))
    assert len(told) >= 9 and told - {"--rdzv-", "--nodes"} <= known


STARTED_AGAIN = """
import os, sys
from torch import distributed
from deepclust_accel.engine import collectives
from deepclust_accel.engine.runtime import Runtime

runtime = Runtime("cpu")
store = distributed.distributed_c10d._get_default_store()
collectives.barrier()
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    store.set("address", "of a process that is going to die")
    collectives.barrier()
    sys.exit(3)
assert not store.check(["address"])
"""


def test_workers_that_are_started_again_do_not_find_the_addresses_of_those_before(tmp_path):
    """torchrun keeps the store; who looks up a peer that is gone waits for half an hour."""
    (tmp_path / "program.py").write_text(STARTED_AGAIN)
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=1", str(tmp_path / "program.py")]
    running = launch(*command)
    said = running.communicate(timeout=240)[1]
    assert running.returncode == 0, said[-3000:]
