"""Bounds as places in a table: none becomes smaller, and none much larger."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.arrays import as_float64
from relax_tapml.compare.tolerances.bound_table import STEP, BoundTable

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


@st.composite
def bounds(draw):
    """Any bit patterns without their sign: zero, denormals, infinities and NaN among them."""
    dtype = dtype_of(draw(st.sampled_from(DTYPES)))
    bits = 8 * dtype.itemsize
    few = draw(st.lists(st.integers(0, (1 << (bits - 1)) - 1), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    many = rng.integers(0, 1 << (bits - 1), draw(st.sampled_from([0, 300, 2000])), np.uint64)
    values = np.concatenate([np.array(few, np.uint64), many]).astype(f"u{dtype.itemsize}")
    return values.view(dtype)


@given(bounds())
def test_no_bound_becomes_smaller_or_much_larger(bound):
    """Zero, infinity and NaN stay; a few values stay as they are, each of them."""
    table = BoundTable.of(bound)
    if table is None:  # float64 over all of its range
        assert bound.dtype == np.float64
        return
    found = table.bounds()
    assert (found.dtype, found.shape) == (bound.dtype, bound.shape)
    was, now = as_float64(bound), as_float64(found)
    np.testing.assert_array_equal(np.isnan(now), np.isnan(was))
    judged = ~np.isnan(was)
    was, now = was[judged].astype(np.longdouble), now[judged].astype(np.longdouble)
    assert (now >= was).all()
    assert (now <= was * (1 + np.longdouble(STEP))).all()
    np.testing.assert_array_equal(np.isinf(now), np.isinf(was))
    if len(np.unique(was)) < 256:
        np.testing.assert_array_equal(now, was)


@given(bounds())
def test_a_table_is_as_short_as_it_may_be(bound):
    """Its values are bounds that are there, each once, and each is needed."""
    table = BoundTable.of(bound)
    if table is None:
        return
    assert np.isin(as_float64(table.values)[:-1], as_float64(bound)).all()
    assert len(np.unique(table.places)) == len(table.values)


def test_zero_of_either_sign_is_one_bound():
    table = BoundTable.of(np.array([0.0, -0.0, 1.0], np.float32))
    assert len(table.values) == 2
    np.testing.assert_array_equal(table.places, [0, 0, 1])


@pytest.mark.parametrize(
    ("values", "places", "message"),
    [
        ([1.0, 2.0], [0, 2], "a bound is value 2 of 2"),
        ([2.0, 1.0], [0, 1], "do not ascend"),
        ([-1.0, 1.0], [0, 1], "do not ascend from 0"),
        ([np.nan, 1.0], [0, 1], "do not ascend"),
        ([[1.0]], [0], "is none of bounds"),
    ],
)
def test_another_table_is_refused(values, places, message):
    with pytest.raises(ValueError, match=message):
        BoundTable(values=np.array(values), places=np.array(places, np.uint8))


def test_places_of_another_width_are_refused():
    with pytest.raises(ValueError, match="places of uint16"):
        BoundTable(values=np.array([1.0]), places=np.zeros(3, np.uint16))
