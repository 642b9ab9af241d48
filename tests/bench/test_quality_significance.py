"""Tests over data sets: printed tables, exact small cases, and the refusal to test too few."""

import pytest

from deepclust_accel.bench.quality.significance import FEWEST, compare, critical_difference


def made(**scores):
    """Method -> data set -> score, from lists."""
    return {method: {f"set{i}": v for i, v in enumerate(values)} for method, values in scores.items()}


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_demsar(methods, q):  # JMLR 2006, table 5a
    data = 14
    assert critical_difference(methods, data) == pytest.approx(
        q * (methods * (methods + 1) / (6 * data)) ** 0.5, abs=1e-3
    )


def test_ranks_are_mean_ranks_with_ties_shared():
    found = compare(made(a=[0.9, 0.8], b=[0.9, 0.7], c=[0.1, 0.75]))
    assert found["ranks"] == {"a": (1.5 + 1) / 2, "b": (1.5 + 3) / 2, "c": (3 + 2) / 2}
    assert list(found["ranks"]) == ["a", "b", "c"]


def test_too_few_data_sets_get_ranks_and_no_p_value():
    found = compare(made(a=[1.0] * (FEWEST - 1), b=[0.0] * (FEWEST - 1)))
    assert found["ranks"] == {"a": 1.0, "b": 2.0}
    assert found["test"] is None and "too few" in found["note"]


def test_two_methods_are_compared_by_signed_ranks():
    found = compare(made(a=[0.90, 0.80, 0.70, 0.60, 0.50, 0.40], b=[0.89, 0.78, 0.67, 0.56, 0.45, 0.34]))
    assert found["test"]["name"] == "Wilcoxon signed ranks"
    assert found["test"]["p"] == pytest.approx(2 / 2**6)  # one of the two most extreme of 64 sign patterns


def test_friedman_of_a_constant_order_is_at_its_maximum():
    rows = 8
    found = compare(made(a=[0.9] * rows, b=[0.8] * rows, c=[0.7] * rows))
    assert found["test"]["name"] == "Friedman"
    assert found["test"]["statistic"] == pytest.approx(rows * (3 - 1))  # N (k - 1), reached when all agree
    assert found["critical_difference"] == pytest.approx(critical_difference(3, rows))


def test_no_difference_gets_no_critical_difference():
    found = compare(made(a=[3, 1, 2, 3, 1, 2], b=[2, 3, 1, 2, 3, 1], c=[1, 2, 3, 1, 2, 3]))
    assert found["test"]["statistic"] == pytest.approx(0) and found["critical_difference"] is None


@pytest.mark.parametrize("scores", [{"a": [0.5] * 7, "b": [0.5] * 7}, {m: [0.5] * 7 for m in "abc"}])
def test_methods_that_are_equal_everywhere(scores):
    found = compare(made(**scores))
    assert found["test"] is None and "same" in found["note"]


def test_a_method_without_all_data_sets_is_named_and_left_out():
    table = made(a=[0.9, 0.8], b=[0.7, 0.6])
    table["images-only"] = {"set0": 1.0}
    found = compare(table)
    assert found["left_out"] == ["images-only"] and set(found["ranks"]) == {"a", "b"}
