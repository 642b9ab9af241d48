"""Several processes do what one does: gradients to 1e-12 in float64, whole fits, files, errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from deepclust_accel.methods import registry

PARITY = Path(__file__).parents[2] / "bench" / "parity.py"
BUILT_IN = [entry.name for entry in registry.entries() if entry.distribution == registry.BUILT_IN]
DISTRIBUTED = [name for name in BUILT_IN if registry.load(name).info.distributed]


def torchrun(ranks, *command, check=True):
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    done = subprocess.run([sys.executable, *launch, *command], capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def parity(tmp_path_factory):
    """What bench/parity.py finds; of four ranks one has no row in the last batch."""
    out = tmp_path_factory.mktemp("ranks") / "parity.json"
    done = subprocess.run([sys.executable, PARITY, "--out", out], capture_output=True, text=True, timeout=550)
    assert out.exists(), done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("ranks", ["2", "4"])
@pytest.mark.parametrize("method", DISTRIBUTED)
def test_ranks_together_find_what_one_finds(parity, method, ranks):
    found = parity["methods"][method][ranks]
    for kind in ("losses", "gradients", "centers", "targets"):
        assert found[kind] is None or found[kind] <= 1e-12, kind
    assert found["gradients"] is not None and found["same_labels"] and found["same_epochs"] and found["epochs"]


def test_a_stop_rule_has_ended_a_fit_before_its_last_epoch(parity):
    epochs = [found["2"]["epochs"].get("cluster", 12) for found in parity["methods"].values()]
    assert any(1 < count < parity["settings"]["fit"]["epochs"] for count in epochs)


def test_the_recorded_parity_is_of_all_methods_and_within_its_limit():
    record = json.loads((PARITY.parent / "results" / "parity.json").read_text())
    assert sorted(record["methods"]) == sorted(DISTRIBUTED) and record["limit"] == 1e-12
    for found in record["methods"].values():
        for row in found.values():
            assert all(row[k] is None or row[k] <= 1e-12 for k in ("losses", "gradients", "centers", "targets"))
            assert row["same_labels"] and row["same_epochs"]


THREADS_AT_EXIT = """
import atexit, os, sys

def tell():  # what was registered first is called last
    names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    open(f"{sys.argv[1]}/{os.environ['RANK']}", "w").write(" ".join(names))

atexit.register(tell)
from deepclust_accel.engine import collectives
from deepclust_accel.engine.runtime import Runtime
runtime = Runtime("cpu")
collectives.barrier()
import torch._dynamo
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_no_thread_of_a_process_group_outlives_the_interpreter(tmp_path):
    """One that does aborts the process now and then: it waits for the interpreter's lock when there is none any more."""
    program = tmp_path / "program.py"
    program.write_text(THREADS_AT_EXIT)
    torchrun(2, str(program), str(tmp_path))
    for rank in "01":
        names = (tmp_path / rank).read_text()
        assert names and "gloo" not in names


def fit(out, *options, check=True):
    command = [sys.executable, "-m", "deepclust_accel", "fit", *options, "--out", str(out), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


SETTINGS = ["--set", "hidden=16", "--set", "pretrain_epochs=6", "--set", "pretrain_batch_size={}", "--seed", "0"]


def test_the_command_line_in_two_processes_finds_what_one_finds(tmp_path):
    def chosen(batch):
        return ["ae-kmeans", "digits", "-k", "10", *(word.format(batch) for word in SETTINGS)]

    fit(tmp_path / "one", *chosen(256))
    done = fit(tmp_path / "two", *chosen(128), "--processes", "2")
    one, two = (np.load(tmp_path / name / "labels.npy") for name in ("one", "two"))
    assert adjusted_rand_score(one, two) > 0.95  # float32 sums in another order
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "one").iterdir())
    assert done.stdout.count("acc") == 1  # one process speaks


def test_compiled_in_two_processes_it_finds_what_one_finds(tmp_path):
    def chosen(batch):
        return ["ae-kmeans", "digits", "-k", "10", *(word.format(batch) for word in SETTINGS)]

    fit(tmp_path / "one", *chosen(256))
    fit(tmp_path / "two", *chosen(128), "--processes", "2", "--compile")
    states = json.loads((tmp_path / "two" / "run.json").read_text())["compiled"]
    if "compiled" not in states.values():
        pytest.skip(f"torch.compile does not work here: {states}")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_what_can_be_mended_is_one_line_and_exit_code_2(tmp_path):
    for options, message in (
        (["kmeans", "digits", "-k", "10"], "processes: expected one for kmeans, got 2"),
        (
            ["idec", "digits", "-k", "10", "--set", "initializer=GaussianMixture(covariance_type=tied)"],
            "initializer: expected kmeans on 2 processes, got GaussianMixture(covariance_type=tied)",
        ),
        (["ae-kmeans", "nowhere.npy", "-k", "10"], "nowhere.npy"),
    ):
        done = fit(tmp_path / "run", *options, "--processes", "2", check=False)
        lines = [line for line in done.stderr.splitlines() if line]
        assert done.returncode == 2 and len(lines) == 1 and message in lines[0], done.stderr
        assert not (tmp_path / "run").exists()


TWO = ["ae-kmeans", "digits", "-k", "10", *(word.format(64) for word in SETTINGS), "--processes", "2"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A fit in two processes that Ctrl-C has interrupted."""
    out = tmp_path_factory.mktemp("ranks") / "cut"
    running = subprocess.Popen(
        [sys.executable, "-m", "deepclust_accel", "fit", *TWO, "--out", str(out), "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    history = out / "history.jsonl"
    while running.poll() is None and not (history.exists() and history.read_text().count("\n") >= 2):
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # what Ctrl-C does
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 130, said
    return out


def test_interrupted_in_two_processes_it_resumes_to_the_same_bits(tmp_path, cut):
    fit(tmp_path / "whole", *TWO)
    shutil.copytree(cut, tmp_path / "cut")
    assert fit(tmp_path / "cut", *TWO, "--resume").stderr == ""
    for name in ("labels.npy", "probabilities.npy", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_interrupted_in_two_processes_one_goes_on(tmp_path, cut):
    alone = ["ae-kmeans", "digits", "-k", "10", *(word.format(128) for word in SETTINGS)]
    fit(tmp_path / "whole", *alone)
    shutil.copytree(cut, tmp_path / "cut")
    refused = fit(tmp_path / "cut", *alone, "--seed", "1", "--resume", check=False)
    assert refused.returncode == 2 and "seed: was 0, is 1" in refused.stderr
    said = fit(tmp_path / "cut", *alone, "--resume").stderr
    assert len(said.splitlines()) == 1 and "a snapshot of 2 processes goes on with 1; not bit-equal" in said
    one, both = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    )
    np.testing.assert_allclose(one, both, rtol=1e-4)  # the same global batches; sums in another order
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["world_size"] == 1


def test_a_finished_run_has_nothing_to_resume_in_any_process(tmp_path):
    fit(tmp_path / "run", *TWO)
    done = fit(tmp_path / "run", *TWO, "--resume")
    assert done.returncode == 0 and "nothing to resume" in done.stderr


def test_what_only_one_process_finds_is_said_with_its_rank(tmp_path):
    """Two machines, of which one has no data; here two processes in folders of their own, each the first of its machine."""
    program = (
        "import os, sys; os.chdir(os.path.join(sys.argv[1], os.environ['RANK'])); os.environ['LOCAL_RANK'] = '0'; sys.argv[1:] = sys.argv[2:]; "
        "from deepclust_accel.cli import main; main()"
    )
    for rank in "01":
        (tmp_path / rank).mkdir()
    np.save(tmp_path / "0" / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    (tmp_path / "program.py").write_text(program)
    settings = ["--set", "hidden=4", "--set", "pretrain_epochs=1", "--quiet"]
    command = [str(tmp_path / "program.py"), str(tmp_path), "fit", "ae-kmeans", "x.npy", "-k", "2", "--out", "run"]
    done = torchrun(2, *command, *settings, check=False)
    assert done.returncode and "dcaccel: rank 1: x.npy: expected" in done.stderr


def test_more_processes_than_rows_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    done = fit(tmp_path / "run", "ae-kmeans", str(tmp_path / "x.npy"), "-k", "2", "--processes", "4", check=False)
    assert done.returncode == 2 and "processes: expected at most as many as rows (3), got 4" in done.stderr
