"""Logged terms: their means, and where they stopped being finite, across the folds that keep memory small."""

import numpy as np
import pytest
import torch

from deepclust_accel.engine.terms import FOLD, Terms


@pytest.mark.parametrize("count", [1, FOLD - 1, FOLD, FOLD + 1, 3 * FOLD + 7])
def test_means_are_those_of_all_values(count):
    values = np.random.default_rng(0).normal(1e6, 1, count).astype(np.float32)
    terms = Terms()
    for step, value in enumerate(values):
        terms.add(step, "a", torch.tensor(value, requires_grad=True))
        terms.add(step, "b", float(step))
    means, broke = terms.take()
    assert means["a"] == pytest.approx(values.astype(np.float64).mean(), rel=1e-12) and broke == {}
    assert means["b"] == pytest.approx((count - 1) / 2)
    assert terms.take() == ({}, {})


@pytest.mark.parametrize("first", [0, FOLD - 1, FOLD, 2 * FOLD + 3])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_bad_step_is_found_whatever_comes_after(first, bad):
    terms = Terms()
    for step in range(2 * FOLD + 10):
        terms.add(step, "a", torch.tensor(bad if step >= first else 1.0))
        terms.add(step, "b", 1.0)
    means, broke = terms.take()
    assert broke == {"a": first} and not np.isfinite(means["a"]) and means["b"] == 1.0


def test_values_of_any_one_element_shape_and_dtype():
    terms = Terms()
    for value in (torch.ones(1, 1), torch.tensor(2, dtype=torch.int32), torch.tensor(3.0, dtype=torch.bfloat16), 4):
        terms.add(0, "a", value)
    assert terms.take()[0] == {"a": 2.5}


def test_double_values_keep_their_digits():
    terms = Terms()
    terms.add(0, "a", torch.tensor(0.1, dtype=torch.float64))
    terms.add(1, "a", 0.1)
    assert terms.take()[0] == {"a": 0.1}
