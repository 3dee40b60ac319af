from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.compare import error_map as module
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.error_map import MOST_BINS, RATIO_EDGES, ErrorMap
from relax_tapml.compare.tolerances.elements import ElementTolerance

WITHIN = RATIO_EDGES.index(1.0) + 1


def of(oracle: np.ndarray, actual: np.ndarray, bound: float | np.ndarray = 0.1) -> ErrorMap:
    bounds = np.broadcast_to(np.asarray(bound, dtype="float64"), oracle.shape)
    found = compare(oracle, actual, ElementTolerance(bound=bounds, origin="test")).error_map
    assert found is not None
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 70), max_size=4).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_wrong_value_is_in_its_bin(shape: tuple[int, ...], seed: int) -> None:
    """The counts by place are those that NumPy finds, whatever the shape; the sums agree."""
    rng = np.random.default_rng(seed)
    if math.prod(shape) > 20_000:
        shape = shape[:2]
    oracle = rng.standard_normal(shape).astype("float32")
    actual = oracle + (rng.random(shape) < 0.2) * rng.choice([0.01, 1.0, np.nan, 1e9], shape)
    actual = np.asarray(actual, dtype="float32")
    bound = np.where(rng.random(shape) < 0.1, np.nan, 0.1)
    with np.errstate(invalid="ignore"):
        wrong = ~(abs(actual.astype("float64") - oracle) <= bound) & ~np.isnan(bound)
    comparison = compare(oracle, actual, ElementTolerance(bound=bound, origin="test"))
    found = comparison.error_map
    if not wrong.any():
        assert found is None
        return
    assert found is not None
    expected = np.zeros((len(found.wrong), len(found.wrong[0])), dtype=int)
    for index in np.argwhere(wrong):
        place = [
            index[axis] // size for axis, size in zip(found.axes, found.bin_sizes, strict=True)
        ]
        expected[tuple([0] * (2 - len(place)) + place)] += 1
    assert np.asarray(found.wrong).tolist() == expected.tolist()
    assert max(expected.shape) <= MOST_BINS
    assert sum(found.ratios[WITHIN:]) + found.nonfinite == comparison.mismatches == wrong.sum()
    assert sum(found.ratios) + found.exact + found.nonfinite == comparison.total


def test_a_row_of_a_large_matrix_is_a_row_of_bins() -> None:
    """One wrong row of 1,000 is one of the rows of 32 places; every column is wrong once."""
    oracle = np.zeros((2, 1000, 1, 70), dtype="float32")
    actual = oracle.copy()
    actual[1, 500] = 1
    found = of(oracle, actual)
    assert (found.axes, found.bin_sizes) == ((1, 3), (32, 3))
    assert [sum(row) for row in found.wrong] == [0] * 15 + [70] + [0] * 16
    assert found.wrong[15][:3] == (3, 3, 3)
    assert found.wrong[15][-1] == 1


def test_ratios_are_in_half_decades() -> None:
    """The tolerance itself is within; twice as much is the first bin beyond."""
    oracle = np.zeros(5, dtype="float64")
    actual = np.array([0.1, 0.2, 0.0, 1e9, 1e-9])
    found = of(oracle, actual)
    assert found.exact == 1
    bins = {number: count for number, count in enumerate(found.ratios) if count}
    assert bins == {0: 1, WITHIN - 1: 1, WITHIN: 1, len(RATIO_EDGES): 1}


def test_parts_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large tensor is counted part by part, with the same result."""
    rng = np.random.default_rng(0)
    oracle = rng.standard_normal((700, 300)).astype("float32")
    actual = np.where(rng.random(oracle.shape) < 0.01, oracle + 1, oracle).astype("float32")
    whole = of(oracle, actual)
    monkeypatch.setattr(
        module, "parts_of", lambda *_: [slice(0, 90_000), slice(90_000, oracle.size)]
    )
    assert of(oracle, actual) == whole


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_have_a_map_too(dtype: str) -> None:
    oracle = np.zeros((3, 4), dtype=dtype)
    actual = oracle.copy()
    actual[2, 1] = 1
    found = compare(oracle, actual).error_map
    assert found is not None
    assert found.wrong[2] == (0, 1, 0, 0)
    assert found.ratios[-1] == 1  # No error is allowed.


def test_a_comparison_that_passes_has_none() -> None:
    assert compare(np.zeros(3), np.zeros(3)).error_map is None
