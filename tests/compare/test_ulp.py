"""Distances in units in the last place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.compare.metrics.ulp import max_ulp

NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"]
FLOATS = ["float64", "float32", *NARROW]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("start", [1.0, -1.0, 0.0, 2.0])
def test_neighbours_are_one_apart(dtype, start):
    """The next value is 1 away, also across a power of two and from zero to a denormal."""
    kind = np.dtype(dtype)
    value = np.array([start]).astype(kind)
    unsigned = np.dtype(f"uint{8 * kind.itemsize}")
    nearer_to_infinity = (value.view(unsigned) + unsigned.type(1)).view(kind)
    assert max_ulp(value, nearer_to_infinity) == 1
    assert max_ulp(nearer_to_infinity, value) == 1


@pytest.mark.parametrize("dtype", NARROW)
def test_distance_counts_the_values_between(dtype):
    """The distance is that of the ranks among all finite values of the type."""
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"uint{8 * kind.itemsize}")
    every = np.arange(2 ** (8 * kind.itemsize), dtype=np.uint64).astype(unsigned).view(kind)
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of every NaN
        values = every.astype("float64")
    finite = np.unique(values[np.isfinite(values)])
    rng = np.random.default_rng(0)
    for left, right in rng.integers(0, len(finite), (50, 2)):
        pair = finite[[left, right]].astype(kind)
        assert max_ulp(pair[:1], pair[1:]) == abs(int(left) - int(right))


def test_both_zeros_are_one_value():
    """0.0 and -0.0 are 0 apart, and each denormal neighbour 1 from both."""
    assert max_ulp(np.array([0.0]), np.array([-0.0])) == 0
    assert max_ulp(np.array([-0.0], "float32"), np.array([1e-45], "float32")) == 1
    assert max_ulp(np.array([-1e-45], "float32"), np.array([1e-45], "float32")) == 2


def test_extremes_do_not_overflow():
    """From the least to the greatest float64 is nearly 2**64."""
    limits = np.finfo("float64")
    assert max_ulp(np.array([limits.min]), np.array([limits.max])) == 2 * (0x7FF << 52) - 2


def test_values_that_are_not_finite_do_not_count():
    """Only pairs of finite values have a distance."""
    expected = np.array([np.nan, 1.0, np.inf, 1.0], "float32")
    actual = np.array([1.0, np.nan, 1.0, np.nextafter(np.float32(1), np.float32(2))], "float32")
    assert max_ulp(expected, actual) == 1
    assert max_ulp(expected[:1], actual[:1]) == 0


def test_types_of_unusual_layout():
    """float4 uses half a byte, and e8m0 has no sign."""
    values = np.array([1.0, 1.5, 2.0, -1.0]).astype(ml_dtypes.float4_e2m1fn)
    assert max_ulp(values[:1], values[2:3]) == 2
    assert max_ulp(values[:1], values[3:]) == 4
    powers = np.array([1.0, 8.0]).astype(ml_dtypes.float8_e8m0fnu)
    assert max_ulp(powers[:1], powers[1:]) == 3
