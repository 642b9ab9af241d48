"""``dcaccel bench kernels``: every operator beside the alternatives, checked, then timed in interleaved rounds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deepclust_accel.bench import memory
from deepclust_accel.bench.case import Case, Inputs
from deepclust_accel.bench.cases import CASES
from deepclust_accel.bench.gate import check
from deepclust_accel.bench.harness import SLOW_S, Runner, gradient_step, interleave, matmul_step, quartiles, ratios
from deepclust_accel.bench.machine import describe
from deepclust_accel.bench.providers import PROVIDERS, Provider, first_line
from deepclust_accel.bench.record import prepare, text, write
from deepclust_accel.errors import ArgumentError

__all__ = ["PHASES", "measure", "parse_operators", "parse_providers", "parse_rows", "prepare", "text", "write"]

PHASES = ("forward", "backward", "both")
_BASELINE, _YARDSTICK = "native", "matmul"
_MOST_ROWS = 1_000_000  # checking costs N^2 in float64: hours at this size
Say = Callable[[str], None]


def parse_rows(given: str) -> list[int]:
    """Sizes from ``"300,1024"``, in the order given, each once."""
    advice = "give comma-separated sizes such as --rows 300,1024"
    try:
        rows = [int(part) for part in given.split(",") if part.strip()]
    except ValueError:
        raise ArgumentError(f"rows: expected whole numbers, got {given!r}; {advice}") from None
    if not rows or min(rows) < 1 or max(rows) > _MOST_ROWS:
        raise ArgumentError(f"rows: expected numbers from 1 to {_MOST_ROWS}, got {given!r}; {advice}")
    return list(dict.fromkeys(rows))


def parse_providers(given: str) -> list[str]:
    """Names from ``"native,eager"``, in the order given; all there are from an empty string."""
    return _parse_names("providers", given, PROVIDERS)


def parse_operators(given: str) -> list[str]:
    """Names from ``"t_similarity"``, in the order given; all there are from an empty string."""
    return _parse_names("operators", given, CASES)


def _parse_names(what: str, given: str, table: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    unknown = [name for name in names if name not in table]
    if unknown:
        known = ", ".join(table)
        raise ArgumentError(f"{what}: expected some of {known}, got {unknown[0]!r}; leave --{what} out for all")
    return names or list(table)


@dataclass(frozen=True)
class _Plan:
    """What holds for every size."""

    cases: list[Case]
    providers: list[Provider]
    repeats: int
    matmul_size: int
    shortest_s: float
    slow_s: float
    memory: bool
    budget: int
    say: Say


def _present(plan: _Plan) -> dict[str, str]:
    """Operator/provider -> why it is left out, or an empty string; ArgumentError when nothing is left."""
    there = {f"{case.name}/{p.name}": p.missing(case) for case in plan.cases for p in plan.providers}
    for name, why in there.items():
        if why:
            plan.say(f"{name}: left out: {why}")
    if all(there.values()):
        why = "; ".join(f"{name}: {why}" for name, why in there.items())
        raise ArgumentError(f"providers: expected one that runs here, got none ({why}); choose another")
    return there


def measure(
    rows: Sequence[int] | None = None,
    *,
    operators: Sequence[str] = tuple(CASES),
    repeats: int = 15,
    providers: Sequence[str] = tuple(PROVIDERS),
    say: Say = lambda line: None,
    memory_too: bool = True,
    matmul_size: int = 2048,
    shortest_s: float = 0.005,
    slow_s: float = SLOW_S,
) -> dict[str, Any]:
    """Check, time and weigh every operator at every size, under the thread settings that torch has now.

    Args:
        rows: sizes N; by default those that each operator is measured at.
        operators: names.
        repeats: rounds; each provider gives one sample per round.
        providers: names; one that cannot run here is listed with the reason.
        say: takes lines about the progress.
        memory_too: also measure peak memory, one fresh process per provider and size.
        matmul_size: of the matrix product whose speed is the yardstick.
        shortest_s: how long a sample lasts at least.
        slow_s: a provider whose single run takes longer is timed in fewer rounds.

    Returns:
        ``machine``, ``settings``, ``matmul_gflops`` (median and quartiles), ``providers`` (name -> "available" or
        why not) and ``results``: one entry per operator, size, provider and phase; see ``bench/README.md``.
    """
    if repeats < 1:
        raise ArgumentError(f"repeats: expected 1 or more, got {repeats}; the default is 15")
    plan = _Plan(
        [CASES[name] for name in operators],
        [PROVIDERS[name] for name in providers],
        repeats,
        matmul_size,
        shortest_s,
        slow_s,
        memory_too,
        memory.available() // 2,
        say,
    )
    results: list[dict[str, Any]] = []
    speeds: list[float] = []
    with contextlib.redirect_stdout(sys.stderr):  # KeOps talks while it compiles; stdout is for the results
        there = _present(plan)
        machine = describe()  # before the work, so that the load is that of others
        for case in plan.cases:
            for n in rows or case.rows:
                found, products = _one_size(case, n, plan)
                results += found
                speeds += products
    low, middle, high = quartiles(speeds)
    return {
        "machine": machine,
        "settings": _settings(rows, plan),
        "matmul_gflops": {"median": middle, "q1": low, "q3": high},
        "providers": {name: why or "available" for name, why in there.items()},
        "results": results,
    }


def _settings(rows: Sequence[int] | None, plan: _Plan) -> dict[str, Any]:
    return {
        "rows": sorted({n for case in plan.cases for n in rows or case.rows}),
        "repeats": plan.repeats,
        "providers": [provider.name for provider in plan.providers],
        "shortest_sample_s": plan.shortest_s,
        "fewer_rounds_above_s": plan.slow_s,
        "matmul_size": plan.matmul_size,
        "memory_budget_bytes": plan.budget,
        "operators": {
            case.name: {
                "shape": case.shape,
                "tolerance": case.tolerance,
                "multiply_adds": {str(n): case.multiply_adds(n) for n in rows or case.rows},
            }
            for case in plan.cases
        },
    }


def _one_size(case: Case, rows: int, plan: _Plan) -> tuple[list[dict[str, Any]], list[float]]:
    """Entries of all providers at one size, and the GFLOP/s of the matrix product round by round."""
    where = f"{case.name} N={rows}"
    plan.say(f"{where}: computing value and gradients in float64")
    inputs = case.inputs(rows)
    exact, upstream = case.exact(inputs), case.gradient_from_above(rows)
    entries, runners = {}, []
    for provider in plan.providers:
        entries[provider.name] = entry = _admit(case, rows, provider, inputs, exact, plan)
        if entry["status"] != "ok":
            plan.say(f"{where}: {provider.name}: {entry['status']}: {entry['reason']}")
            continue
        runner = Runner(provider.name, gradient_step(entry.pop("call"), inputs, upstream), provider.context)
        single = runner.calibrate(plan.shortest_s, plan.repeats, plan.slow_s)
        if runner.stride > 1:
            plan.say(f"{where}: {provider.name}: one run takes {single:.1f} s, so every {runner.stride}th round only")
        runners.append(runner)
    yardstick = Runner(_YARDSTICK, matmul_step(plan.matmul_size))
    yardstick.calibrate(plan.shortest_s, plan.repeats, plan.slow_s)
    plan.say(f"{where}: timing {', '.join(runner.name for runner in runners) or 'nobody'}, {plan.repeats} rounds")
    interleave([*runners, yardstick], plan.repeats)
    if plan.memory:
        for runner in runners:
            plan.say(f"{where}: {runner.name}: peak memory")
            peak, why = memory.peak(case.name, runner.name, rows)
            entries[runner.name] |= {"peak_bytes": peak, "reason": why}
    speed = {number: 2e-9 * plan.matmul_size**3 / seconds for number, (seconds,) in yardstick.samples.items()}
    times = {runner.name: _phases(runner) for runner in runners}
    found = [
        _entry(case, rows, phase, entry, times.get(name), times.get(_BASELINE), speed)
        for name, entry in entries.items()
        for phase in PHASES
    ]
    return found, list(speed.values())


def _admit(
    case: Case, rows: int, provider: Provider, inputs: Inputs, exact: tuple[float | Tensor, Inputs], plan: _Plan
) -> dict[str, Any]:
    """Whether a provider may be timed: there, small enough, and right."""
    entry: dict[str, Any] = {"provider": provider.name, "status": "unavailable", "reason": provider.missing(case)}
    if entry["reason"]:
        return entry
    need = case.dense_bytes(provider.name, rows)
    if need > plan.budget:
        why = f"would need {need / 2**30:.1f} GiB, the budget is {plan.budget / 2**30:.1f} GiB"
        return entry | {"status": "out of memory", "reason": why, "predicted_bytes": need}
    if provider.compiles:
        plan.say(f"{case.name} N={rows}: {provider.name}: first call, which may compile")
    start = time.perf_counter()
    try:
        call = provider.build(case)
        with provider.context():
            verdict = check(case, call, inputs, exact)
    except Exception as error:  # foreign compilers and libraries: the others are still worth measuring
        return entry | {"status": "failed", "reason": first_line(error)}
    entry |= {"error": verdict.error, "first_call_s": time.perf_counter() - start, "reason": verdict.reason}
    return entry | ({"status": "failed"} if verdict.reason else {"status": "ok", "call": call})


def _phases(runner: Runner) -> dict[str, dict[int, float]]:
    """Seconds by phase and round."""
    parts = runner.samples.items()
    return {
        "forward": {number: forward for number, (forward, _) in parts},
        "backward": {number: backward for number, (_, backward) in parts},
        "both": {number: forward + backward for number, (forward, backward) in parts},
    }


def _entry(
    case: Case,
    rows: int,
    phase: str,
    found: dict[str, Any],
    times: dict[str, dict[int, float]] | None,
    baseline: dict[str, dict[int, float]] | None,
    matmul: dict[int, float],
) -> dict[str, Any]:
    """One entry of ``results``; what was not measured is None."""
    keys = ("median_s", "q1_s", "q3_s", "ratio", "ratio_q1", "ratio_q3", "gflops", "share_of_matmul")
    entry: dict[str, Any] = {"operator": case.name, "rows": rows, "provider": found["provider"], "phase": phase}
    entry |= {"status": found["status"], "reason": found["reason"], **dict.fromkeys(keys), "repeats": 0}
    for key in ("error", "first_call_s", "peak_bytes", "predicted_bytes"):
        entry[key] = found.get(key)
    if not times:
        return entry
    mine = times[phase]
    entry["q1_s"], entry["median_s"], entry["q3_s"] = quartiles(list(mine.values()))
    entry["repeats"] = len(mine)
    if baseline:
        entry["ratio_q1"], entry["ratio"], entry["ratio_q3"] = quartiles(ratios(mine, baseline[phase]))
    counts = case.multiply_adds(rows)
    work = 2e-9 * (sum(counts.values()) if phase == "both" else counts[phase])  # a multiply-add is two operations
    entry["gflops"] = work / entry["median_s"]
    entry["share_of_matmul"] = quartiles(ratios({n: work / seconds for n, seconds in mine.items()}, matmul))[1]
    return entry
