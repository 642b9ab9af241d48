"""The command line from outside: a whole run, its files, JSON, resuming, and every mistake in one line with exit code 2."""

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, dcaccel, ok, refused
from safetensors.numpy import load_file

from deepclust_accel import ops


def test_fit_leaves_a_complete_run_folder(finished):
    out, result, _ = finished
    assert {p.name for p in out.iterdir()} == {
        "run.json",
        "model.safetensors",
        "labels.npy",
        "probabilities.npy",
        "history.jsonl",
        "report.html",
    }
    labels, probabilities = np.load(out / "labels.npy"), np.load(out / "probabilities.npy")
    assert labels.dtype == np.int64 and labels.shape == (120,) and probabilities.shape == (120, 2)
    assert np.array_equal(probabilities.argmax(1), labels) and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert any(name.startswith("network.encoder") for name in load_file(out / "model.safetensors"))
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    joint = [r for r in history if r["stage"] == "joint"]
    assert len(joint) == 3 and {"loss", "reconstruction", "kl_gaussian", "kl_cluster", "similarity"} <= set(joint[0])


def test_fit_json_has_the_promised_keys(finished):
    out, result, stderr = finished
    assert result["schema"] == "deepclust_accel.fit" and result["version"] == 1 and result["out"] == str(out)
    assert set(result["scores"]) == {"acc", "nmi", "nmi_max", "ari"} and all(
        0 <= v <= 1 for k, v in result["scores"].items() if k != "ari"
    )
    assert {"pretrain", "init-mixture", "init-classifier", "joint"} <= set(result["seconds"])
    used = result["kernels"]["wasserstein_similarity"]
    assert used["kernel"] in ("native", "reference") and used["why"] and used["calls"] == 3
    assert "joint epoch 3/3" in stderr


def test_run_record_says_where_every_parameter_came_from(finished):
    record = json.loads((finished[0] / "run.json").read_text())
    assert record["schema"] == "deepclust_accel.run" and record["status"] == "finished"
    assert (
        record["params"]["epochs"] == {"value": 3, "origin": "--set"}
        and record["params"]["beta"]["origin"] == "default"
    )
    assert record["data"]["rows"] == 120 and record["data"]["fingerprint"] and record["versions"]["torch"]
    assert record["command"].startswith("dcaccel fit dvae") and record["scaling"] == "standard"


def test_predict_and_embed_repeat_the_fit(finished, rows, tmp_path):
    out = finished[0]
    ok("predict", out, rows / "x.npy", "-o", tmp_path / "l.npy", "--probabilities", tmp_path / "p.npy")
    assert np.array_equal(np.load(tmp_path / "l.npy"), np.load(out / "labels.npy"))
    assert np.array_equal(np.load(tmp_path / "p.npy"), np.load(out / "probabilities.npy"))
    assert list(map(int, ok("predict", out, rows / "x.npy").stdout.split())) == np.load(out / "labels.npy").tolist()
    result = json.loads(ok("embed", out, rows / "x.npy", "-o", tmp_path / "z.npy", "--json").stdout)
    assert (result["rows"], result["width"]) == (120, 3) and np.load(tmp_path / "z.npy").shape == (120, 3)


def test_report_can_be_drawn_again(finished):
    page = finished[0] / "report.html"
    before = page.read_text()
    page.unlink()
    ok("report", finished[0])
    assert page.read_text() == before


def test_config_file_flag_and_default_in_order_of_precedence(rows, tmp_path):
    (tmp_path / "run.toml").write_text(
        'n_clusters = 3\nseed = 5\nscaling = "unit"\n[params]\nn_init = 3\niterations = 7\n'
    )
    ok(
        "fit",
        "kmeans",
        rows / "x.npy",
        "--config",
        tmp_path / "run.toml",
        "--set",
        "n_init=4",
        "--seed",
        6,
        "--out",
        tmp_path / "r",
    )
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert (record["n_clusters"], record["seed"], record["scaling"]) == (3, 6, "unit")
    assert record["params"] == {
        "n_init": {"value": 4, "origin": "--set"},
        "iterations": {"value": 7, "origin": "config file"},
    }


def test_epochs_scale_scales_every_duration(rows, tmp_path):
    ok("fit", "dvae", rows / "x.npy", "-k", 2, "--out", tmp_path / "r", "--epochs-scale", 0.02, "--set", "hidden=8")
    params = json.loads((tmp_path / "r" / "run.json").read_text())["params"]
    assert (
        params["epochs"] == {"value": 2, "origin": "default × epochs-scale 0.02"}
        and params["warmup_epochs"]["value"] == 1
    )


def test_without_labels_there_are_no_scores(rows, tmp_path):
    result = json.loads(ok("fit", "kmeans", rows / "x.npy", "-k", 2, "--out", tmp_path / "r", "--json").stdout)
    assert result["scores"] is None


def test_labels_can_be_given_apart(rows, tmp_path):
    np.save(tmp_path / "y.npy", np.repeat([7, 3], 60))
    result = json.loads(
        ok(
            "fit", "kmeans", rows / "x.npy", "-k", 2, "--labels", tmp_path / "y.npy", "--out", tmp_path / "r", "--json"
        ).stdout
    )
    assert result["scores"]["acc"] == 1.0


def test_interrupted_by_ctrl_c_and_resumed_is_bit_equal(rows, tmp_path):
    arguments = ["fit", "dvae", rows / "x.npz", "-k", 2, *SMALL, "--set", "epochs=400", "--set", "warmup_epochs=2"]
    ok(*arguments, "--out", tmp_path / "whole")
    command = [sys.executable, "-m", "deepclust_accel", *map(str, arguments), "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for line in process.stderr:
        if "joint epoch 20/" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130 and "--resume" in rest and "Traceback" not in rest
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert "interrupted" in refused("predict", tmp_path / "cut", rows / "x.npy")
    assert "unfinished run" in refused(*arguments, "--out", tmp_path / "cut")
    assert "seed: was 0, is 1" in refused(*arguments, "--seed", 1, "--resume", "--out", tmp_path / "cut")
    ok(*arguments, "--resume", "--out", tmp_path / "cut")
    for name in ("model.safetensors", "labels.npy", "probabilities.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    again = ok(*arguments, "--resume", "--out", tmp_path / "cut")
    assert "nothing to resume" in again.stderr
    other = refused(*arguments, "--resume", "--precision", "bf16-mixed", "--compile", "--out", tmp_path / "cut")
    assert "precision: was" in other and "compile: was" in other


def test_help_and_listing_do_not_import_torch():
    code = "import sys; sys.argv = ['dcaccel', {!r}, *{!r}]\nfrom deepclust_accel.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code\nassert 'torch' not in sys.modules"
    for arguments in (["--help"], ["fit", "--help"], ["methods", "list"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(arguments[0], arguments[1:])], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_methods_show_documents_every_setting():
    shown = json.loads(ok("methods", "show", "dvae", "--json").stdout)
    assert all(p["help"] for p in shown["params"]) and len(shown["params"]) > 15
    assert next(p for p in shown["params"] if p["name"] == "batch_size")["unit"] == "rows"
    listed = json.loads(ok("methods", "list", "--json").stdout)["methods"]
    assert {"dvae", "kmeans", "gmm", "pca-kmeans", "ae-kmeans", "ae-gmm"} <= {m["name"] for m in listed}


def test_doctor_checks_every_operator():
    found = json.loads(ok("doctor", "--json").stdout)
    assert found["healthy"] and all(row["agrees"] for row in found["operators"])
    assert {row["operator"] for row in found["operators"]} == set(ops.report())


def test_doctor_fails_when_an_operator_disagrees(tmp_path):
    """The exit code must be able to be 1: break the loss and look."""
    code = (
        "import sys, deepclust_accel.ops as ops; whole = ops.wasserstein_similarity\n"
        "import deepclust_accel.doctor as d; d._CASES['wasserstein_similarity'] = lambda: (lambda *a: whole(*a) * (1 if a[0].dtype.itemsize == 8 else 1.01), "
        "__import__('deepclust_accel.doctor', fromlist=['x'])._wasserstein_case()[1])\n"
        "sys.argv = ['dcaccel', 'doctor']; from deepclust_accel.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "disagrees with its reference" in done.stdout


def test_another_run_in_the_folder_is_not_touched(finished, rows):
    before = {p: p.read_bytes() for p in finished[0].iterdir()}
    assert "finished run" in refused("fit", "kmeans", rows / "x.npy", "-k", 2, "--out", finished[0])
    assert {p: p.read_bytes() for p in finished[0].iterdir()} == before


def test_resume_with_other_data_is_refused(finished, rows):
    X = np.load(rows / "x.npy")
    np.save(rows / "other.npy", X + 1)
    assert "data" in refused(
        "fit", "dvae", rows / "other.npy", "-k", 2, "--out", finished[0], "--scaling", "standard", "--resume", *SMALL
    )


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs a place that cannot be written"
)
def test_a_place_that_cannot_be_written_is_refused(rows):
    assert "choose another --out" in refused("fit", "kmeans", rows / "x.npy", "-k", 2, "--out", "/proc/self/nowhere")


def test_debug_shows_the_traceback(tmp_path):
    done = dcaccel("fit", "kmeans", tmp_path / "gone.npy", "-k", 2, "--out", tmp_path / "r", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_the_reference_can_be_asked_for(rows, tmp_path):
    command = [
        sys.executable,
        "-m",
        "deepclust_accel",
        "fit",
        "dvae",
        str(rows / "x.npz"),
        "-k",
        "2",
        "--out",
        str(tmp_path / "r"),
        "--json",
        *SMALL,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "DCACCEL_BACKEND": "reference"}, check=True
    )
    used = json.loads(done.stdout)["kernels"]["wasserstein_similarity"]
    assert used["kernel"] == "reference" and "DCACCEL_BACKEND" in used["why"]


def test_results_do_not_replace_what_is_of_value(tmp_path):
    data, out = tmp_path / "x.npy", tmp_path / "run"
    np.save(data, np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    before = data.read_bytes()
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which a failing test run by root would replace
    ok("fit", "kmeans", str(data), "-k", "2", "--out", str(out))
    targets = [
        ([str(data)], "the data"),
        ([str(out / "model.safetensors")], "a place in the run folder"),
        ([str(tmp_path / "pipe")], "a device"),
        ([str(tmp_path / "a.npy"), "--probabilities", str(tmp_path / "a.npy")], "one for two"),
    ]
    for target, got in targets:
        done = dcaccel("predict", str(out), str(data), "--out", *target)
        assert done.returncode == 2 and f"got {got}; choose another path" in done.stderr, done.stderr
    assert data.read_bytes() == before and not (tmp_path / "pipe").is_file()


def test_the_version_is_that_of_the_package():
    assert ok("--version").stdout == f"dcaccel {metadata.version('deepclust_accel')}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("words", [["methods", "list"], ["methods", "list", "--json"]])
def test_a_result_that_cannot_be_printed_is_one_line(words):
    command = [sys.executable, "-m", "deepclust_accel", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("dcaccel: stdout: expected to print the result, got No space left")
