"""Do methods differ over data sets? The tests of Demšar (JMLR 2006), paired by data set, on mean ACC.

Two methods: Wilcoxon's signed ranks. More: Friedman's test, then Nemenyi's critical difference of mean ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["FEWEST", "LEVEL", "compare", "critical_difference"]

LEVEL = 0.05
FEWEST = 6  # data sets: with five, signed ranks cannot come below p = 2 / 2^5 = 0.0625, however clear the case


def compare(table: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Rank methods over the data sets that all of them have, and test whether they differ.

    Args:
        table: method -> data set -> mean ACC. A method that lacks a data set is left out, and named.

    Returns:
        ``data``; ``ranks``, method -> mean rank, 1 the best, best first; ``left_out``; ``test`` (name, statistic, p),
        None with fewer than ``FEWEST`` data sets or two methods; ``critical_difference``, None unless Friedman's test
        rejects; and ``note``.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare, rankdata, wilcoxon

    data = sorted({name for scores in table.values() for name in scores})
    methods = [method for method, scores in table.items() if len(scores) == len(data)]
    left_out = sorted(set(table) - set(methods))
    answer: dict[str, Any] = {
        "data": data,
        "ranks": {},
        "left_out": left_out,
        "test": None,
        "critical_difference": None,
    }
    if len(methods) < 2:
        return answer | {"note": "fewer than two methods have all data sets: nothing to compare"}
    scores = np.array([[table[method][name] for name in data] for method in methods])  # (methods, data sets)
    means = rankdata(-scores, axis=0).mean(1)
    answer["ranks"] = {methods[i]: float(means[i]) for i in np.argsort(means, kind="stable")}
    if len(data) < FEWEST:
        note = f"{len(data)} data sets are too few for a test (at least {FEWEST}): ranks, but no p-value"
        return answer | {"note": note}
    if not (scores != scores[0]).any():
        return answer | {"note": "all methods have the same ACC on every data set"}
    if len(methods) == 2:
        found = wilcoxon(scores[0], scores[1])
        answer["test"] = {
            "name": "Wilcoxon signed ranks",
            "statistic": float(found.statistic),
            "p": float(found.pvalue),
        }
        return answer | {"note": _verdict(float(found.pvalue))}
    found = friedmanchisquare(*scores)
    p = float(found.pvalue)
    answer["test"] = {"name": "Friedman", "statistic": float(found.statistic), "p": p}
    if p < LEVEL:
        answer["critical_difference"] = critical_difference(len(methods), len(data))
    return answer | {"note": _verdict(p)}


def critical_difference(methods: int, data: int, level: float = LEVEL) -> float:
    """Nemenyi: mean ranks differ significantly when further apart than q √(k (k + 1) / 6N)."""
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - level, methods, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * data)))


def _verdict(p: float) -> str:
    return (
        f"p = {p:.3g}: " + ("the methods differ" if p < LEVEL else "no difference shown") + f" at the {LEVEL:g} level"
    )
