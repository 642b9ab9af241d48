"""Scaling agrees with scikit-learn's scalers in float64, survives hostile columns, and finds what is not finite."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.preprocessing import StandardScaler

from deepclust_accel.data import ArraySource, Scaling, check_finite
from deepclust_accel.data import scaling as module
from deepclust_accel.errors import ArgumentError, DataError, ResumeError


@pytest.fixture(params=[1 << 20, 16], ids=["one chunk", "many chunks"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_VALUES", request.param)


def table(dtype, shape=(101, 4), seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "ui":
        return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    return (rng.normal(size=shape) * np.array([0.01, 1, 100, 1e4]) + np.array([1e3, 0, -5, 1e5])).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f4", "f8"])
def test_standard_is_scikit_learns(dtype, chunks):
    array = table(dtype)
    expected = StandardScaler().fit_transform(array.astype(np.float64))
    scaled = Scaling.fit("standard", ArraySource(array)).apply(torch.from_numpy(array))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_unit_maps_the_extremes_of_all_data_to_zero_and_one(dtype, chunks):
    array = table(dtype)
    wide = array.astype(np.float64)
    scaled = Scaling.fit("unit", ArraySource(array)).apply(torch.from_numpy(array))
    np.testing.assert_allclose(scaled.numpy(), (wide - wide.min()) / (wide.max() - wide.min()), atol=2e-7)
    assert float(scaled.min()) == 0.0 and float(scaled.max()) == 1.0  # exactly, or a Bernoulli loss refuses them


def test_full_range_bytes_become_exactly_value_over_255():
    array = np.arange(256, dtype=np.uint8).reshape(64, 4)
    scaled = Scaling.fit("unit", ArraySource(array)).apply(torch.from_numpy(array))
    assert torch.equal(scaled, torch.from_numpy(array).float() / 255)


def test_images_are_standardised_per_pixel():
    array = np.random.default_rng(0).normal(2, 3, (40, 3, 4, 5)).astype(np.float32)
    fitted = Scaling.fit("standard", ArraySource(array))
    scaled = fitted.apply(torch.from_numpy(array)).numpy()
    assert fitted.center.shape == (3, 4, 5)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_mean_with_small_spread_is_not_lost(dtype, chunks):
    """A float32 mean of 16,777,217.3 would be off by 0.3, a third of the spread."""
    noise = np.random.default_rng(1).integers(0, 4, (5000, 2))
    array = (noise + 2.0**24 - 4).astype(dtype)
    expected = StandardScaler().fit_transform(noise.astype(np.float64))
    scaled = Scaling.fit("standard", ArraySource(array)).apply(torch.from_numpy(array))
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 1e30, -3.4e38])
@pytest.mark.parametrize("kind", ["unit", "standard"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_data_become_zero_then_and_later(value, kind, dtype, chunks):
    array = np.full((37, 3), value, dtype)  # the float64 mean of 37 times 0.1 is not 0.1
    fitted = Scaling.fit(kind, ArraySource(array))
    assert torch.equal(fitted.apply(torch.from_numpy(array)), torch.zeros(37, 3))
    assert torch.equal(fitted.apply(torch.full((2, 3), 7.0)), torch.zeros(2, 3))


@pytest.mark.parametrize("size", [3.4e38, 1e-44])
@pytest.mark.parametrize("kind", ["unit", "standard"])
def test_the_ends_of_the_float32_range_stay_finite(size, kind):
    array = np.array([[-size, 0], [size, size], [0, -size]], np.float32)
    scaled = Scaling.fit(kind, ArraySource(array)).apply(torch.from_numpy(array))
    assert bool(scaled.isfinite().all())
    assert bool((scaled[0, 0] < scaled[2, 0]) & (scaled[2, 0] < scaled[1, 0]))


def test_one_row():
    array = np.array([[3.0, 5.0]])
    assert Scaling.fit("standard", ArraySource(array)).apply(torch.tensor([[3.0, 5.0]])).tolist() == [[0.0, 0.0]]
    assert Scaling.fit("unit", ArraySource(array)).apply(torch.tensor([[3.0, 5.0]])).tolist() == [[0.0, 1.0]]


def test_none_converts_and_nothing_else():
    rows = torch.tensor([[1, 2]], dtype=torch.uint8)
    assert Scaling().apply(rows).tolist() == [[1.0, 2.0]] and Scaling().apply(rows).dtype == torch.float32


def test_apply_leaves_its_input_alone():
    array = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    rows = torch.from_numpy(array.copy())
    Scaling.fit("standard", ArraySource(array)).apply(rows)
    np.testing.assert_array_equal(rows.numpy(), array)


@pytest.mark.parametrize("kind", ["none", "unit", "standard"])
def test_saved_and_loaded_it_scales_to_the_same_bits(kind):
    array = np.random.default_rng(0).normal(1e5, 1, (50, 3)).astype(np.float32)
    array[:, 1] = 4
    fitted = Scaling.fit(kind, ArraySource(array))
    again = Scaling.from_state(load(save(fitted.state())))
    assert again.kind == kind
    assert torch.equal(again.apply(torch.from_numpy(array)), fitted.apply(torch.from_numpy(array)))


def test_refuses_other_columns_other_kinds_and_damaged_state():
    fitted = Scaling.fit("standard", ArraySource(np.random.default_rng(0).normal(size=(9, 2))))
    with pytest.raises(DataError, match=r"\(2,\), as fitted, got \(3,\)"):
        fitted.apply(torch.zeros(4, 3))
    for call in (lambda: Scaling.fit("minmax", ArraySource(np.zeros((2, 2)))), lambda: Scaling("unit")):
        with pytest.raises(ArgumentError, match="scaling"):
            call()
    state = fitted.state()
    for broken in (
        {},
        {"kind": torch.tensor(9)},
        {"kind": torch.tensor(2)},
        state | {"scale": torch.zeros(2)},
        state | {"center": torch.full((2,), torch.nan)},
        state | {"center": torch.zeros(3)},
    ):
        with pytest.raises(ResumeError, match="saved scaling"):
            Scaling.from_state(broken)


def test_check_finite_names_the_first_and_counts_all(chunks):
    array = np.zeros((50, 4))
    assert check_finite(ArraySource(array)) == (0.0, 0.0)
    array[40, 1], array[17, 3], array[17, 2] = np.nan, np.inf, 1e39
    for call in (check_finite, lambda s: Scaling.fit("unit", s), lambda s: Scaling.fit("standard", s)):
        with pytest.raises(DataError, match="3 values that are not, the first 1e[+]39 at row 17, column 2"):
            call(ArraySource(array))
    array[17] = 0
    with pytest.raises(DataError, match="got nan at row 40, column 1"):
        check_finite(ArraySource(array))


def test_check_finite_names_a_pixel():
    images = np.zeros((5, 3, 3), np.float32)
    images[4, 1, 2] = -np.inf
    with pytest.raises(DataError, match=r"got -inf at row 4, column \(1, 2\)"):
        check_finite(ArraySource(images))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i8", "u8", "f2", "f4", "f8"])
def test_check_finite_returns_the_range(dtype, chunks):
    array = np.arange(40).reshape(10, 4).astype(dtype)
    assert check_finite(ArraySource(array)) == (0.0, 39.0)
