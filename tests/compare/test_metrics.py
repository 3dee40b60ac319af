"""Every metric against its definition, written down with NumPy and whole arrays."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.metrics.norm import norm
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
INTEGERS = ["int8", "uint8", "int32", "int64", "uint64", "int4", "uint4"]
TOLERANCE = RuleTolerance(atol=0.1, rtol=0.1, origin="test")


@st.composite
def pairs(draw, elements=None):
    """Two float arrays of one dtype and shape; some values equal, some not finite."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=5))
    values = (
        elements
        if elements is not None
        else st.one_of(
            st.floats(-100, 100), st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf])
        )
    )
    wide = hnp.arrays(np.float64, shape, elements=values)
    oracle = draw(wide)
    result = np.where(draw(hnp.arrays(bool, shape)), oracle, draw(wide))
    with np.errstate(over="ignore"):
        return oracle.astype(dtype), result.astype(dtype)


def finite_pairs(oracle, result):
    left, right = oracle.astype("float64").ravel(), result.astype("float64").ravel()
    both = np.isfinite(left) & np.isfinite(right)
    return left[both], right[both]


@given(pairs())
def test_sizes_of_the_difference(arrays):
    """Largest, largest relative and root mean square, of the values finite on both sides."""
    comparison = compare(*arrays, TOLERANCE)
    left, right = finite_pairs(*arrays)
    difference = np.abs(left - right)
    assert comparison.max_abs == difference.max(initial=0)
    nonzero = left != 0
    with np.errstate(over="ignore"):
        ratios = difference[nonzero] / np.abs(left[nonzero])
    assert comparison.metrics["max_rel"] == ratios.max(initial=0)
    rmse = math.sqrt(np.mean(difference**2)) if difference.size else 0.0
    assert comparison.metrics["rmse"] == pytest.approx(rmse, rel=1e-12, abs=1e-150)


@given(pairs(st.one_of(st.floats(-100, 100, width=16), st.sampled_from([0.0, math.nan]))))
def test_cosine_and_snr(arrays):
    """The angle, and the ratio of signal and noise, of the values finite on both sides."""
    comparison = compare(*arrays, TOLERANCE)
    left, right = finite_pairs(*arrays)
    signal, noise = np.linalg.norm(left), np.linalg.norm(left - right)
    lengths = signal * np.linalg.norm(right)
    if lengths == 0:
        assert comparison.cosine is None
    else:
        assert comparison.cosine == pytest.approx(np.dot(left, right) / lengths, abs=1e-9)
    if noise == 0:
        assert comparison.snr_db == math.inf
    elif signal == 0:
        assert comparison.snr_db == -math.inf
    else:
        assert comparison.snr_db == pytest.approx(20 * math.log10(signal / noise), abs=1e-9)


@given(pairs())
def test_mismatches_and_the_census(arrays):
    """Finite values differ beyond the tolerance, others if they are not the same."""
    oracle, result = arrays
    comparison = compare(oracle, result, TOLERANCE)
    left, right = oracle.astype("float64"), result.astype("float64")
    both = np.isfinite(left) & np.isfinite(right)
    agree = np.isclose(right, left, rtol=0.1, atol=0.1, equal_nan=True)
    # Where NumPy's rounding of the allowance is another, a value at the limit may be either.
    margin = np.abs(np.abs(right[both] - left[both]) - (0.1 * np.abs(left[both]) + 0.1))
    if margin.min(initial=1) > 1e-9:
        assert comparison.mismatches == int((~agree).sum())
        first = None if agree.all() else tuple(np.argwhere(~agree)[0])
        assert comparison.first_index == first
        if first is not None:
            np.testing.assert_equal(comparison.first_expected, float(left[first]))
            np.testing.assert_equal(comparison.first_actual, float(right[first]))
    assert comparison.metrics["nonfinite"] == {
        "expected_nan": int(np.isnan(left).sum()),
        "expected_inf": int(np.isinf(left).sum()),
        "actual_nan": int(np.isnan(right).sum()),
        "actual_inf": int(np.isinf(right).sum()),
    }


@given(pairs())
def test_the_worst_value_has_the_largest_ratio(arrays):
    """Among the values finite on both sides, where no other value is wrong."""
    comparison = compare(*arrays, TOLERANCE)
    left, right = finite_pairs(*arrays)
    if not left.size or not math.isfinite(comparison.error):
        return
    difference, allowed = np.abs(left - right), 0.1 * np.abs(left) + 0.1
    assert comparison.ratio == pytest.approx((difference / allowed).max(), rel=1e-12)
    assert comparison.error in difference


@pytest.mark.parametrize("dtype", DTYPES + INTEGERS)
def test_values_at_the_limit_are_counted_on_both_sides(dtype):
    """Highest and lowest; infinity is beyond, and the 0 of unsigned types is no limit."""
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    is_integer = dtype.startswith(("int", "uint"))
    info = ml_dtypes.iinfo(kind) if is_integer else ml_dtypes.finfo(kind)
    low, high = np.array(info.min, kind), np.array(info.max, kind)
    has_low = not dtype.startswith("uint")
    one, zero = np.array([1, 0]).astype(kind)
    oracle = np.array([low, high, high, high, one, zero], kind)
    result = np.array([low, high, one, one, one, zero], kind)
    found = compare(oracle, result, EqualTolerance(origin="test")).metrics["saturation"]
    assert found == {"expected": 3 + has_low, "actual": 1 + has_low}


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e308])
def test_the_norm_has_the_range_of_float64(scale):
    """Squares that overflow or vanish do not spoil it."""
    assert norm(np.array([0.3, -0.4]) * scale) == pytest.approx(0.5 * scale, rel=1e-3)
    assert norm(np.zeros(3)) == norm(np.zeros(0)) == 0.0


def test_huge_values_have_an_rmse_and_snr():
    """Mask values at the limit of float64 have no cosine, and the rest is right."""
    oracle = np.array([1e300, 2e300])
    comparison = compare(oracle, oracle * 1.5)
    assert comparison.metrics["rmse"] == pytest.approx(math.sqrt((0.5**2 + 1) / 2) * 1e300)
    assert comparison.snr_db == pytest.approx(20 * math.log10(2))
    assert comparison.cosine is None


_TOP, _NAN, _INF = np.finfo("float32").max, math.nan, math.inf
_I64, _U64 = np.iinfo("int64").max, np.iinfo("uint64").max


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (np.array([_I64 - 1, _I64 - 2]), 0),
        (np.array([_U64 - 1, _U64 - 2], "uint64"), 0),
        (np.array([_NAN, _INF, -_INF, _TOP, -_TOP], "float32"), 2),
        (np.array([True, False]), 0),
    ],
    ids=["int64", "uint64", "not finite", "bool"],
)
def test_only_the_limits_themselves_are_saturated(values, count):
    """Not a neighbour that float64 cannot represent, an infinity or True; NaN hides no other."""
    found = compare(values, values.copy()).metrics["saturation"]
    assert found == {"expected": count, "actual": count}


def test_integers_have_distances_only():
    """Ratios and directions of indices and labels mean nothing."""
    comparison = compare(np.array([1, 2, 3]), np.array([1, 2, 6]))
    assert comparison.max_abs == 3.0
    assert comparison.metrics["rmse"] == pytest.approx(math.sqrt(3))
    for name in ("max_rel", "max_ulp", "cosine", "snr_db"):
        assert comparison.metrics[name] is None
