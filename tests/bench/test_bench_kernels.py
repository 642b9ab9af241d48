"""The bench as a whole, small: arguments, the form of its results, and what it leaves in a folder."""

import json
import math
import sys
from dataclasses import replace

import pytest

from deepclust_accel.bench import kernels
from deepclust_accel.bench.cases import CASES
from deepclust_accel.bench.providers import PROVIDERS, Provider
from deepclust_accel.errors import ArgumentError, OutputError

KEYS = {
    "operator": str,
    "rows": int,
    "provider": str,
    "phase": str,
    "status": str,
    "reason": str,
    "repeats": int,
    "median_s": float,
    "q1_s": float,
    "q3_s": float,
    "ratio": float,
    "ratio_q1": float,
    "ratio_q3": float,
    "gflops": float,
    "share_of_matmul": float,
    "error": float,
    "first_call_s": float,
    "peak_bytes": int,
    "predicted_bytes": int,
}
QUICK = {"matmul_size": 32, "shortest_s": 1e-5}
WASSERSTEIN = ["wasserstein_similarity"]


@pytest.fixture
def provide(monkeypatch):
    """Offer another provider."""

    def offer(name, call, **how):
        monkeypatch.setitem(PROVIDERS, name, Provider(name, "of a test", lambda case: call(case), **how))

    return offer


@pytest.fixture(scope="module")
def results():
    return kernels.measure(
        [64, 100], operators=WASSERSTEIN, repeats=3, providers=["reference", "eager"], memory_too=False, **QUICK
    )


@pytest.mark.parametrize(("given", "rows"), [("300", [300]), ("300, 1024,", [300, 1024]), ("2,1,2", [2, 1])])
def test_rows(given, rows):
    assert kernels.parse_rows(given) == rows


@pytest.mark.parametrize("given", ["", ",", "0", "12,-3", "1e3", "ten", "3.5", "2000000"])
def test_wrong_rows(given):
    with pytest.raises(ArgumentError, match=r"^rows: expected .*, got .*; give") as caught:
        kernels.parse_rows(given)
    assert "\n" not in str(caught.value)


def test_providers():
    assert kernels.parse_operators("") == list(CASES)
    assert kernels.parse_providers("") == ["native", "reference", "eager", "compile", "keops"]
    assert kernels.parse_providers("eager, native,eager") == ["eager", "native"]
    with pytest.raises(ArgumentError, match="^providers: expected some of native, .*, got 'jax'; leave"):
        kernels.parse_providers("native,jax")
    with pytest.raises(ArgumentError, match="^operators: expected some of wasserstein_similarity, "):
        kernels.parse_operators("similarity")


@pytest.mark.parametrize("repeats", [0, -1])
def test_wrong_repeats(repeats):
    with pytest.raises(ArgumentError, match=f"^repeats: expected 1 or more, got {repeats};"):
        kernels.measure([8], repeats=repeats)


def test_results_have_the_documented_form(results):
    assert set(results) == {"machine", "settings", "matmul_gflops", "providers", "results"}
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    combinations = [(e["operator"], e["rows"], e["provider"], e["phase"]) for e in results["results"]]
    assert combinations == [
        (operator, rows, name, phase)
        for operator in WASSERSTEIN
        for rows in (64, 100)
        for name in ("reference", "eager")
        for phase in kernels.PHASES
    ]
    for entry in results["results"]:
        assert set(entry) == set(KEYS)
        assert all(value is None or type(value) is KEYS[key] for key, value in entry.items())
        assert entry["status"] == "ok" and entry["repeats"] == 3
        assert 0 < entry["q1_s"] <= entry["median_s"] <= entry["q3_s"]
        assert entry["ratio"] is None and entry["peak_bytes"] is None
        assert 0 < entry["error"] < 1e-4
    assert results["matmul_gflops"]["q1"] <= results["matmul_gflops"]["median"] <= results["matmul_gflops"]["q3"]
    assert {"cpu", "threads", "instruction_set", "versions", "build"} <= set(results["machine"])


def test_speed_is_necessary_work_over_time(results):
    for entry in results["results"]:
        counts = CASES[entry["operator"]].multiply_adds(entry["rows"])
        adds = sum(counts.values()) if entry["phase"] == "both" else counts[entry["phase"]]
        assert entry["gflops"] == pytest.approx(2 * adds / entry["median_s"] / 1e9)


def test_native_is_the_baseline_of_the_ratios(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "native", Provider("native", "stands in", lambda case: case.eager))
    found = kernels.measure(
        [32], operators=WASSERSTEIN, repeats=3, providers=["reference", "native"], memory_too=False, **QUICK
    )["results"]
    own = [e for e in found if e["provider"] == "native"]
    assert [(e["ratio_q1"], e["ratio"], e["ratio_q3"]) for e in own] == [(1.0, 1.0, 1.0)] * 3
    assert all(0 < e["ratio_q1"] <= e["ratio"] <= e["ratio_q3"] for e in found)


def test_who_is_wrong_or_breaks_is_shown_and_not_timed(provide):
    def broken(case):
        def call(*inputs):
            raise RuntimeError("no compiler\nand much more")

        return call

    provide("wrong", lambda case: lambda *x: case.eager(*x) * 2)
    provide("broken", broken)
    lines = []
    found = kernels.measure(
        [32],
        operators=WASSERSTEIN,
        repeats=3,
        providers=["wrong", "broken", "eager"],
        memory_too=False,
        say=lines.append,
        **QUICK,
    )
    reasons = {e["provider"]: (e["status"], e["reason"], e["median_s"], e["repeats"]) for e in found["results"]}
    assert reasons["wrong"][0] == "failed" and "relative L2 error 1, tolerance 1e-04" in reasons["wrong"][1]
    assert reasons["broken"] == ("failed", "RuntimeError: no compiler", None, 0)
    assert reasons["eager"][0] == "ok"
    assert sum("failed" in line for line in lines) == 2
    assert "N=32 wrong: failed: " in kernels.text(found)
    json.dumps(found, allow_nan=False)


def test_a_provider_that_needs_too_much_memory_is_not_tried(provide, monkeypatch, tmp_path):
    monkeypatch.setattr("deepclust_accel.bench.memory.available", lambda: 2 * 1000)

    def explode(case):
        raise AssertionError("was tried")

    monkeypatch.setitem(PROVIDERS, "eager", Provider("eager", "too big", explode))
    provide("small", lambda case: case.call)
    found = kernels.measure(
        [64], operators=WASSERSTEIN, repeats=3, providers=["eager", "small"], memory_too=False, **QUICK
    )
    entry = next(e for e in found["results"] if e["provider"] == "eager")
    assert entry["status"] == "out of memory" and entry["reason"].startswith("would need 0.0 GiB")
    assert entry["predicted_bytes"] == CASES["wasserstein_similarity"].dense_bytes("eager", 64) > 1000
    assert "out of memory" in kernels.text(found)
    kernels.write(found, tmp_path)


def test_missing_providers_are_named_and_none_at_all_is_an_error(provide):
    provide("absent", lambda case: case.eager, missing=lambda case: "not installed; pip install absent")
    lines = []
    found = kernels.measure(
        [16],
        operators=WASSERSTEIN,
        repeats=3,
        providers=["absent", "eager"],
        memory_too=False,
        say=lines.append,
        **QUICK,
    )
    assert found["providers"]["wasserstein_similarity/absent"] == "not installed; pip install absent"
    assert lines[0] == "wasserstein_similarity/absent: left out: not installed; pip install absent"
    assert {e["status"] for e in found["results"] if e["provider"] == "absent"} == {"unavailable"}
    assert "left out: not installed" in kernels.text(found)
    with pytest.raises(ArgumentError, match="^providers: expected one that runs here, got none .*pip install absent"):
        kernels.measure([16], operators=WASSERSTEIN, providers=["absent"])


def test_what_providers_print_stays_off_stdout(provide, capsys):
    provide("loud", lambda case: lambda *x: print("compiling") or case.eager(*x))
    kernels.measure([16], operators=WASSERSTEIN, repeats=1, providers=["loud"], memory_too=False, **QUICK)
    printed = capsys.readouterr()
    assert printed.out == "" and "compiling" in printed.err


def test_operators_have_sizes_of_their_own(monkeypatch):
    monkeypatch.setitem(CASES, "soft_assign", replace(CASES["soft_assign"], rows=(5, 9)))
    found = kernels.measure(operators=["soft_assign"], repeats=1, providers=["eager"], memory_too=False, **QUICK)
    assert found["settings"]["rows"] == [5, 9] and {e["rows"] for e in found["results"]} == {5, 9}
    assert set(found["settings"]["operators"]["soft_assign"]["multiply_adds"]) == {"5", "9"}


def test_peak_memory_is_filled_in(monkeypatch):
    asked = []
    monkeypatch.setattr("deepclust_accel.bench.memory.peak", lambda *what: asked.append(what) or (12345, ""))
    found = kernels.measure([16], operators=WASSERSTEIN, repeats=1, providers=["eager"], **QUICK)
    assert asked == [("wasserstein_similarity", "eager", 16)]
    assert {e["peak_bytes"] for e in found["results"]} == {12345}


@pytest.mark.parametrize(("load", "busy"), [(None, False), (0.2, False), (3.0, True)])
def test_text_warns_of_a_busy_machine(results, load, busy):
    shown = kernels.text({**results, "machine": {**results["machine"], "load": load, "cores": 2}})
    assert ("careful: the machine was busy before (load 3.0 on 2 cores)" in shown) is busy


def test_text_is_aligned(results):
    lines = kernels.text(results).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("wasserstein_similarity"))
    header, rule, *rows = lines[start + 1 : start + 15]
    assert header.split()[:3] == ["N", "provider", "phase"] and set(rule) == {"-", " "}
    assert len(rows) == 12 and {len(row) for row in rows} == {len(rule)}
    assert not any(math.isnan(float(row.split()[3])) for row in rows)


def test_write(results, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "folder"
    kernels.write(results, folder)
    assert json.loads((folder / "results.json").read_text()) == results
    assert (folder / "time.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.iterdir()) == ["results.json", "time.png"]


def test_write_without_matplotlib_says_why_there_is_no_picture(results, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "deepclust_accel.bench.plot", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    kernels.write(results, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    line = capsys.readouterr().err
    assert line.startswith("no time.png: ") and "pip install matplotlib" in line and line.count("\n") == 1


def test_write_into_something_that_is_no_folder(results, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="expected a folder to write into, got"):
        kernels.write(results, tmp_path / "taken")
