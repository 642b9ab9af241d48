"""Settings: coercion by annotation, all problems at once, origins, and the scikit-learn protocol."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepclust_accel.config import Params, describe, from_mapping, param, resolve, to_mapping
from deepclust_accel.errors import ArgumentError


@dataclass
class Sample(Params):
    epochs: int = param(5, "how long", unit="epochs", low=0)
    rate: float = param(0.1, "how fast", above=0, high=1)
    hidden: tuple[int, ...] = param((8, 4), "widths", low=1)
    mode: Literal["slow", "fast"] = param("slow", "which")
    noisy: bool = param(False, "whether")
    floor: float | None = param(None, "least", low=0)


@dataclass
class Dashed(Params):
    batch_size: int = param(5, "rows")


def test_text_is_coerced_by_annotation():
    got = from_mapping(
        Sample, {"epochs": "7", "rate": "1e-2", "hidden": "16, 8", "mode": "fast", "noisy": "yes", "floor": "none"}
    )
    assert got == Sample(7, 0.01, (16, 8), "fast", True, None)
    assert from_mapping(Sample, {"epochs": 3.0, "hidden": [2], "floor": 1}) == Sample(3, hidden=(2,), floor=1.0)
    assert from_mapping(Sample, {"epochs": "1e3"}).epochs == 1000


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"epochs": "many"}, "epochs: expected whole number, got 'many'"),
        ({"epochs": "1.5"}, "epochs: expected whole number"),
        ({"epochs": True}, "epochs: expected whole number"),
        ({"epochs": -1}, "epochs: expected at least 0, got -1"),
        ({"rate": 0}, "rate: expected more than 0, got 0"),
        ({"rate": "nan"}, "rate: expected a finite number"),
        ({"rate": "inf"}, "rate: expected a finite number"),
        ({"hidden": "8,0"}, "hidden: expected at least 1, got 0"),
        ({"hidden": 5}, "hidden: expected a list of whole number, got 5"),
        ({"mode": "fsat"}, "mode: expected one of 'slow', 'fast', got 'fsat'; did you mean 'fast'"),
        ({"noisy": "perhaps"}, "noisy: expected true or false"),
        ({"epoch": 1}, "epoch: expected a parameter of Sample, got an unknown name; did you mean 'epochs'"),
        ({"zzz": 1}, "zzz: expected one of epochs, rate, hidden"),
    ],
)
def test_problems_are_named(given_, message):
    with pytest.raises(ArgumentError) as caught:
        from_mapping(Sample, given_)
    assert message in str(caught.value)


def test_all_problems_come_at_once():
    with pytest.raises(ArgumentError) as caught:
        from_mapping(Sample, {"epochs": "x", "rate": 9, "moode": 1})
    assert all(name in str(caught.value) for name in ("epochs", "rate", "moode"))


def test_layers_win_in_order_and_leave_their_origin():
    got, origin = resolve(Sample, [("file", {"epochs": 1, "rate": 0.5}), ("--set", {"epochs": "2"})])
    assert (got.epochs, got.rate) == (2, 0.5)
    assert (origin["epochs"], origin["rate"], origin["mode"]) == ("--set", "file", "default")


def test_dashes_name_the_same_setting_in_every_layer():
    got, origin = resolve(Dashed, [("file", {"batch_size": 1}), ("--set", {"batch-size": "2"})])
    assert got.batch_size == 2 and origin == {"batch_size": "--set"}


@pytest.mark.parametrize("text", ["9007199254740993", 9007199254740993])
def test_whole_numbers_stay_exact(text):
    assert from_mapping(Sample, {"epochs": text}).epochs == 9007199254740993


@pytest.mark.parametrize("value", ["1e999999999", "-1e999999999", 10**400, "sNaN", "", "1e", "0x10", b"1", [1], None])
def test_what_is_no_number_of_use_is_refused_at_once(value):
    for name in ("epochs", "rate"):
        with pytest.raises(ArgumentError, match="expected (a finite|whole)? ?number, got"):
            from_mapping(Sample, {name: value})


@given(st.integers(0, 10**9), st.floats(1e-6, 1), st.lists(st.integers(1, 99), min_size=1), st.booleans())
def test_round_trip_through_a_mapping(epochs, rate, hidden, noisy):
    sample = Sample(epochs, rate, tuple(hidden), "fast", noisy)
    assert from_mapping(Sample, to_mapping(sample)) == sample
    assert from_mapping(Sample, {k: str(v) for k, v in to_mapping(sample).items()}) == sample


@given(
    st.dictionaries(
        st.sampled_from(["epochs", "rate", "hidden", "mode", "noisy", "floor", "other"]),
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text())),
    )
)
def test_whatever_is_given_the_only_error_is_ours(mapping):
    try:
        from_mapping(Sample, mapping).validate()
    except ArgumentError:
        pass


def test_validation_covers_values_set_afterwards():
    sample = Sample()
    sample.epochs = -3
    with pytest.raises(ArgumentError, match="at least 0"):
        sample.validate()
    with pytest.raises(ArgumentError, match="did you mean 'rate'"):
        sample.set_params(rte=1)


def test_description_has_what_a_table_needs():
    rows = {row["name"]: row for row in describe(Sample)}
    assert rows["epochs"]["unit"] == "epochs" and rows["epochs"]["low"] == 0
    assert (
        rows["mode"]["type"] == "slow | fast"
        and rows["floor"]["type"] == "number or none"
        and rows["hidden"]["default"] == [8, 4]
    )
