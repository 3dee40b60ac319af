"""The rule tolerances follow."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict

NORMAL = np.random.default_rng(0).standard_normal(4000)


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol_of_one"),
    [
        ("float64", 2.0**-42, 2.0**-44),
        ("float32", 2.0**-13, 2.0**-15),
        ("float16", 2.0**-7, 2.0**-7),
        ("bfloat16", 2.0**-4, 2.0**-4),
        ("float8_e4m3fn", 2.0**-2, 2.0**-2),
        ("float8_e5m2", 2.0**-1, 2.0**-1),
    ],
)
def test_numbers_of_each_dtype(dtype, rtol, atol_of_one):
    """Ones have the scale 1, so atol is the dtype's share alone."""
    tolerance = tolerance_for(np.ones(8).astype(dtype))
    assert (tolerance.rtol, tolerance.atol) == (rtol, atol_of_one)
    assert dtype in tolerance.origin


def test_scale_is_the_median():
    """For values of one kind the scale is their median magnitude."""
    atol = tolerance_for(NORMAL.astype("float32")).atol
    assert atol == pytest.approx(2**-15 * np.median(np.abs(NORMAL)), rel=1e-3)


@pytest.mark.parametrize("mask", [-1e4, -1e9, np.finfo("float32").min, -np.inf])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_mask_values_do_not_hide_errors(mask, share):
    """However many values are a mask, an error a thousandth of the others' size is found."""
    oracle = NORMAL.astype("float32")
    oracle[: int(share * oracle.size)] = mask
    result = oracle.copy()
    result[-1] += 1e-3
    assert compare(oracle, result).mismatches == 1


def test_zeros_and_infinities_have_no_scale():
    """Zeros and values that are not finite do not count for the scale of the others."""
    values = NORMAL.astype("float32")
    padded = np.concatenate([values, np.zeros(9000), np.full(9000, np.nan)]).astype("float32")
    assert tolerance_for(padded).atol == tolerance_for(values).atol


@pytest.mark.parametrize("oracle", [np.zeros(4), np.array([np.nan, np.inf]), np.zeros(0)])
def test_without_a_scale_only_denormals_are_forgiven(oracle):
    """Where there is nothing to take a scale from, values must agree."""
    assert tolerance_for(oracle.astype("float32")).atol == 2.0**-126


def test_rounding_differences_of_a_long_sum_pass():
    """Another order of summation is not a mismatch; a dropped term is."""
    rng = np.random.default_rng(1)
    left = rng.standard_normal((32, 1024)).astype("float32")
    right = rng.standard_normal((1024, 32)).astype("float32")
    oracle = left @ right
    reordered = left[:, ::-1].copy() @ right[::-1].copy()
    assert compare(oracle, reordered).verdict is Verdict.PASS
    dropped = left[:, 1:] @ right[1:]
    assert compare(oracle, dropped).verdict is Verdict.MISMATCH


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_numbers_that_are_no_tolerance_are_refused(value):
    """A tolerance that accepts everything or nothing is a mistake."""
    with pytest.raises(ValueError, match="atol"):
        RuleTolerance(atol=value, rtol=0.0, origin="test")


def test_a_rule_allows_each_value_its_own():
    """More for larger values; values that are not finite are judged, too."""
    tolerance = RuleTolerance(atol=0.5, rtol=0.25, origin="test")
    oracle = np.array([0.0, -4.0, np.nan, np.inf], "float32")
    np.testing.assert_array_equal(tolerance.allowed(oracle), [0.5, 1.5, 0.5, 0.5])
    np.testing.assert_array_equal(tolerance.allowed(np.array(2.0)), 1.0)
    np.testing.assert_array_equal(tolerance.distance(oracle, oracle), [0, 0, np.nan, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_equal_allows_nothing(dtype):
    """Any difference is a mismatch; the sign of a zero is none."""
    tolerance = EqualTolerance(origin="copied")
    oracle = np.array([0, 1]).astype(dtype)
    assert compare(oracle, oracle.copy(), tolerance).verdict is Verdict.PASS
    assert compare(oracle, oracle[::-1], tolerance).mismatches == 2
    assert compare(np.array([0.0]), np.array([-0.0]), tolerance).verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", ["float8_e8m0fnu", "float32", "float64", "bfloat16"])
def test_bounds_may_have_any_float_dtype(dtype):
    """They are read as they are, strides and all."""
    wide = np.array([[0.5, 4.0], [2.0, np.nan]])
    tolerance = ElementTolerance(bound=wide.astype(getattr(ml_dtypes, dtype, dtype)).T, origin="t")
    oracle = np.zeros((2, 2), "float32")
    np.testing.assert_array_equal(tolerance.allowed(oracle), wide.T)
    result = np.array([[0.5, 2.5], [4.5, 9.0]], "float32")
    comparison = compare(oracle, result, tolerance)
    assert (comparison.total, comparison.mismatches) == (3, 2)
    assert (comparison.first_index, comparison.first_actual) == ((0, 1), 2.5)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), (2, 4)])
def test_bounds_of_another_shape_are_refused(shape):
    """Also where there are as many, or NumPy could broadcast them."""
    tolerance = ElementTolerance(bound=np.ones(shape), origin="test")
    with pytest.raises(ValueError, match=r"\[2, 3\], got \["):
        compare(np.zeros((2, 3)), np.zeros((2, 3)), tolerance)


def test_bounds_that_are_none_are_refused():
    """A negative bound would call every value wrong."""
    for dtype in ("float64", "float32", ml_dtypes.bfloat16, ml_dtypes.float4_e2m1fn):
        with pytest.raises(ValueError, match="got -1"):
            ElementTolerance(bound=np.array([1.0, -1.0]).astype(dtype), origin="test")
    with pytest.raises(ValueError, match="got int64"):
        ElementTolerance(bound=np.array([1, 2]), origin="test")


def test_a_tolerance_of_ones_own_sees_the_whole_array():
    """One that is not marked as elementwise is never judged in parts."""

    class Mean(Tolerance):
        origin = "the mean magnitude"

        def allowed(self, oracle):
            return np.full(oracle.shape, np.abs(oracle).mean())

    oracle = np.arange(200_000, dtype="float32").reshape(2, -1)
    comparison = compare(oracle, oracle + 1, Mean())
    assert comparison.verdict is Verdict.PASS
    assert comparison.allowed == pytest.approx(99999.5, rel=1e-6)
