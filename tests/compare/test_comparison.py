"""Results against oracles, in every float type and at every awkward value."""

from __future__ import annotations

import math
from dataclasses import fields

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import holds_in_order

from relax_tapml.compare.comparison import compare, compare_all, worst
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.verdict import Verdict

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
INTEGERS = ["bool", "int8", "uint8", "int32", "int64", "uint64", "int4"]
NONE = RuleTolerance(atol=0.0, rtol=0.0, origin="exact")
LOOSE = RuleTolerance(atol=0.5, rtol=0.0, origin="half")

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)
FLOAT32 = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32))


def arrays_of(dtype: str):
    """Arrays of any bit pattern of a dtype, NaN and denormals included."""
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"uint{8 * kind.itemsize}")
    return hnp.arrays(unsigned, SHAPES).map(lambda bits: bits.view(kind))


@given(st.sampled_from(FLOATS).flatmap(arrays_of))
def test_everything_equals_itself(array):
    """An array passes against itself, whatever its bits."""
    comparison = compare(array, array.copy())
    assert comparison.verdict is Verdict.PASS
    found = comparison.mismatches, comparison.max_abs, comparison.metrics["max_ulp"]
    assert found == (0, 0.0, 0)
    assert comparison.total == array.size
    assert comparison.first_index is None


@given(st.data())
def test_one_perturbed_value_is_found_at_its_index(data):
    """One value moved beyond the tolerance is the one mismatch; moved within it, none."""
    dtype = data.draw(st.sampled_from(["float64", "float32", "float16", "bfloat16"]))
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=6))
    seed = data.draw(st.integers(0, 2**32 - 1))
    oracle = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    index = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    tolerance = compare(oracle, oracle).tolerance
    allowed = tolerance.rtol * abs(float(oracle[index])) + tolerance.atol
    moved = oracle.copy()
    moved[index] = float(oracle[index]) + 2 * allowed
    comparison = compare(oracle, moved)
    assert comparison.verdict is Verdict.MISMATCH
    assert (comparison.mismatches, comparison.first_index) == (1, index)
    assert comparison.first_expected == float(oracle[index])
    assert comparison.first_actual == float(moved[index])
    assert comparison.error == comparison.max_abs == abs(float(moved[index]) - float(oracle[index]))
    moved[index] = float(oracle[index]) + allowed / 4
    assert compare(oracle, moved).verdict is Verdict.PASS


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("expected", "actual", "named", "error"),
    [
        (1.0, NAN, ("NaN", " finite"), NAN),
        (INF, NAN, ("NaN", "infinite"), NAN),
        (1.0, INF, ("infinite", " finite"), INF),
        (INF, -INF, ("infinite", "sign"), INF),
        (NAN, INF, ("infinite", "NaN"), INF),
        (NAN, 1.0, ("finite", "NaN"), NAN),
        (-INF, 1.0, ("finite", "infinite"), NAN),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
def test_nonfinite_values_must_be_in_the_same_places(dtype, expected, actual, named, error):
    """No tolerance makes up for a NaN or an infinity on one side only."""
    oracle = np.array([[0.5, 1.0], [expected, 2.0]]).astype(dtype)
    result = np.array([[0.5, 1.0], [actual, 2.0]]).astype(dtype)
    comparison = compare(oracle, result)
    assert comparison.verdict is Verdict.MISMATCH
    assert holds_in_order(comparison.reason, *named, "1 of 4 values", "[1, 0]")
    assert comparison.first_index == (1, 0)
    np.testing.assert_equal(comparison.error, error)
    assert comparison.max_abs == 0.0


def test_the_most_severe_mismatch_is_the_reason():
    """A NaN is named before a larger number of values that are merely off."""
    oracle = np.ones((1, 2, 3), "float32")
    result = np.array([[[9.0, 1.0, 1.0], [8.0, NAN, NAN]]], "float32")
    comparison = compare(oracle, result)
    assert holds_in_order(comparison.reason, "NaN", "2 of 6 values", "[0, 1, 1]")
    assert (comparison.mismatches, comparison.first_index) == (4, (0, 0, 0))
    assert comparison.max_abs == 8.0


def test_reason_of_a_wrong_value_has_both():
    """A person reads how far off, how often, and one example."""
    oracle = np.array([1.0, 2.0, 3.0], "float32")
    result = np.array([1.0, 2.5, 3.25], "float32")
    reason = compare(oracle, result).reason
    assert holds_in_order(reason, "0.5", "2 of 3 values", "[1]", "expected 2, got 2.5")


def test_denormals_may_be_flushed_but_are_compared():
    """A device may flush denormals to zero; exact comparison sees the difference."""
    oracle = np.array([1e-42, -1e-42, 1e-39], "float32")
    flushed = np.zeros(3, "float32")
    assert compare(oracle, flushed).verdict is Verdict.PASS
    assert compare(oracle, flushed, NONE).mismatches == 3


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 0, 2)])
def test_empty_tensors_say_that_nothing_was_compared(dtype, shape):
    """Equal shapes without values pass, with a total of 0 and a reason."""
    comparison = compare(np.zeros(shape, dtype), np.zeros(shape, dtype))
    assert comparison.verdict is Verdict.PASS
    assert comparison.total == 0
    assert str(list(shape)) in comparison.reason


def test_strides_do_not_matter():
    """Transposed, reversed and sliced arrays compare by index, not by memory."""
    base = np.arange(24, dtype="float32").reshape(4, 6)
    assert compare(base.T, np.ascontiguousarray(base.T), NONE).verdict is Verdict.PASS
    assert compare(base[::-1, ::2], base[::-1, ::2].copy(), NONE).verdict is Verdict.PASS
    changed = base.copy()
    changed[3, 1] += 10
    assert compare(base.T, changed.T, NONE).first_index == (1, 3)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (np.zeros((2, 4), "float32"), "[2, 3], got [2, 4]"),
        (np.zeros((6,), "float32"), "[2, 3], got [6]"),
        (np.zeros((2, 3), "float64"), "float32, got float64"),
        (np.zeros((2, 3), "int32"), "float32, got int32"),
        (np.zeros((2, 3), ml_dtypes.bfloat16), "float32, got bfloat16"),
    ],
)
def test_other_shape_or_dtype_is_a_mismatch(result, named):
    """Nothing is broadcast or converted."""
    comparison = compare(np.zeros((2, 3), "float32"), result)
    assert comparison.verdict is Verdict.MISMATCH
    assert named in comparison.reason
    assert comparison.total == 0


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_must_be_equal(dtype):
    """One unit off is a mismatch, also where float64 cannot represent the difference."""
    top = int(ml_dtypes.iinfo(dtype).max) if dtype != "bool" else 1
    oracle = np.array([0, top]).astype(dtype) if dtype != "uint64" else np.array([0, top], dtype)
    result = oracle.copy()
    result[1] = top - 1
    comparison = compare(oracle, result)
    found = comparison.mismatches, comparison.max_abs, comparison.metrics["max_ulp"]
    assert found == (1, 1.0, None)
    exact = RuleTolerance(atol=0.0, rtol=0.0, origin=f"{dtype} values must be equal")
    assert comparison.tolerance == exact
    assert comparison.first_expected == top
    assert compare(oracle, oracle.copy()).verdict is Verdict.PASS


def test_the_range_of_int64_does_not_overflow():
    """The distance of the extremes is 2**64 - 1, not -1."""
    oracle, result = np.array([-(2**63)]), np.array([2**63 - 1])
    assert compare(oracle, result).max_abs == 2.0**64


def test_inputs_are_not_modified():
    """Comparing reads only."""
    oracle, result = np.array([1.0, NAN, INF]), np.array([1.5, 2.0, INF])
    oracle.flags.writeable = result.flags.writeable = False
    before = oracle.tobytes(), result.tobytes()
    compare(oracle, result)
    assert (oracle.tobytes(), result.tobytes()) == before


def test_unknown_dtypes_are_refused():
    """There is no rule for complex numbers, and no silent one."""
    complex_values = np.zeros(2, "complex64")
    with pytest.raises(TypeError, match="complex64"):
        compare(complex_values, complex_values, NONE)
    with pytest.raises(TypeError, match="complex64"):
        tolerance_for(complex_values)


def test_outputs_are_compared_in_order():
    """Each output has its comparison; a missing or extra one is a mismatch of its own."""
    one, two = np.array([1.0]), np.array([2.0])
    assert [c.verdict for c in compare_all([one, two], [one, one])] == ["pass", "mismatch"]
    missing = compare_all([one, two], [one])[1]
    assert missing.verdict is Verdict.MISMATCH
    assert holds_in_order(missing.reason, "output 1", "missing", "2 outputs, got 1")
    extra = compare_all([one], [one, two])[1]
    assert holds_in_order(extra.reason, "output 1", "1 outputs, got 2")


def test_outputs_have_their_own_tolerances():
    """The tolerance given for an output is the one used for it."""
    one = np.array([1.0])
    verdicts = [c.verdict for c in compare_all([one, one], [one + 0.1] * 2, [LOOSE, NONE])]
    assert verdicts == ["pass", "mismatch"]
    with pytest.raises(ValueError, match="expected 2 tolerances, got 1"):
        compare_all([one, one], [one, one], [NONE])


def test_the_worst_decides():
    """A mismatch comes before any pass, NaN before any number, and nothing is not a pass."""
    one = np.array([1.0])
    near, far = compare(one, one + 0.4, LOOSE), compare(one, one + 1e-7, NONE)
    nan = compare(one, one * NAN)
    assert worst([near, far]) is far
    assert worst([near, far, nan]) is nan
    assert math.isnan(nan.error)
    # A small error near its limit is worse than a large one far from it.
    tight = compare(one, one + 0.01, RuleTolerance(atol=0.011, rtol=0.0, origin="tight"))
    assert worst([near, tight]) is tight
    unjudged = compare(one, one, ElementTolerance(bound=one * NAN, origin="noise"))
    assert worst([unjudged, compare(one[:0], one[:0]), near]) is near
    with pytest.raises(ValueError, match="zero comparisons"):
        worst([])


def test_error_and_allowed_are_of_one_value():
    """They belong to the value that uses up most of what it is allowed, not to the largest one."""
    oracle = np.array([1000.0, 1.0, 0.0])
    tolerance = RuleTolerance(atol=0.5, rtol=0.01, origin="test")
    passed = compare(oracle, np.array([1002.0, 1.25, 0.0]), tolerance)
    assert passed.verdict is Verdict.PASS
    assert (passed.error, passed.allowed) == (0.25, 0.51)
    assert passed.max_abs == 2.0
    failed = compare(oracle, np.array([1010.0, 1.0, 4.0]), tolerance)
    assert (failed.error, failed.allowed, failed.mismatches) == (4.0, 0.5, 1)
    assert (failed.max_abs, failed.first_index) == (10.0, (2,))


def test_error_without_any_difference_is_zero():
    """What the first value is allowed stands beside it."""
    same = compare(np.array([2.0, 8.0]), np.array([2.0, 8.0]), LOOSE)
    assert (same.error, same.allowed, same.ratio) == (0.0, 0.5, 0.0)


def test_a_difference_where_none_is_allowed_is_the_worst():
    """Its ratio is infinite, however large the allowed errors of others are."""
    bound = np.array([1.0, 0.0, 1.0])
    tolerance = ElementTolerance(bound=bound, origin="test")
    comparison = compare(np.zeros(3), np.array([0.9, 1e-9, 0.0]), tolerance)
    assert (comparison.error, comparison.allowed, comparison.ratio) == (1e-9, 0.0, math.inf)
    assert (comparison.mismatches, comparison.first_index) == (1, (1,))


def test_allowed_of_a_nan_is_what_is_allowed_there():
    """Error stays NaN; the number beside it is of the same place."""
    bound = np.array([0.25, 0.5])
    oracle, result = np.array([1.0, 2.0]), np.array([1.0, NAN])
    comparison = compare(oracle, result, ElementTolerance(bound=bound, origin="test"))
    assert math.isnan(comparison.error)
    assert comparison.allowed == 0.5


@pytest.mark.parametrize("actual", [5.0, NAN, INF, -INF])
@pytest.mark.parametrize("expected", [1.0, NAN, INF])
def test_values_without_a_bound_are_not_judged(expected, actual):
    """They are counted apart and spoil no metric, also where they are not finite."""
    oracle, result = np.array([expected, 1.0, 2.0]), np.array([actual, 1.5, 2.0])
    tolerance = ElementTolerance(bound=np.array([NAN, 1.0, 1.0]), origin="test")
    comparison = compare(oracle, result, tolerance)
    assert comparison.verdict is Verdict.PASS
    assert (comparison.total, comparison.unjudged, comparison.mismatches) == (2, 1, 0)
    assert (comparison.error, comparison.allowed, comparison.max_abs) == (0.5, 1.0, 0.5)
    assert comparison.metrics["rmse"] == pytest.approx(math.sqrt(0.125))
    result[1] = 3.0
    reason = compare(oracle, result, tolerance).reason
    assert holds_in_order(reason, "2", "1 of 2 judged values", "[1]", "expected 1, got 3")


@pytest.mark.parametrize("actual", [1.0, 2.0, NAN])
def test_nothing_judged_is_not_a_pass(actual):
    """Whether the bytes are equal or not: no value was held to anything."""
    tolerance = ElementTolerance(bound=np.full(2, NAN), origin="all of it is noise")
    comparison = compare(np.ones(2), np.full(2, actual), tolerance)
    assert comparison.verdict is Verdict.SKIPPED
    assert (comparison.total, comparison.unjudged) == (0, 2)
    assert holds_in_order(comparison.reason, "2 values", tolerance.origin)
    assert math.isnan(comparison.allowed)


def test_first_mismatch_is_measured_in_ulp():
    """Where both values are finite floats."""
    one = np.array([1.0], "float32")
    exact = EqualTolerance(origin="exact")
    assert compare(one, np.nextafter(one, 2 * one), exact).first_ulp == 1
    assert compare(one, one * np.float32(NAN), exact).first_ulp is None
    assert compare(np.array([1]), np.array([2]), exact).first_ulp is None


@given(st.data(), st.integers(1, 5))
def test_blocks_do_not_matter(data, size):
    """Large tensors are judged part by part, with the result of judging them whole."""
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    values = st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, NAN, INF, -INF, 3e38, 1e-45])
    oracle, result = (data.draw(hnp.arrays(np.float32, shape, elements=values)) for _ in range(2))
    bounds = st.sampled_from([0.0, 0.5, 3.0, NAN])
    bound = data.draw(hnp.arrays(np.float64, shape, elements=bounds))
    for tolerance in (LOOSE, NONE, ElementTolerance(bound=bound, origin="test")):
        whole = compare(oracle, result, tolerance)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("relax_tapml.compare.metrics.block.BLOCK_VALUES", size)
            parts = compare(oracle, result, tolerance)
        names = [item.name for item in fields(whole) if item.name not in ("tolerance", "metrics")]
        found = [(name, getattr(parts, name), getattr(whole, name)) for name in names]
        found += [(name, parts.metrics[name], value) for name, value in whole.metrics.items()]
        for name, mine, others in found:
            if isinstance(others, float):
                np.testing.assert_allclose(mine, others, rtol=1e-12, atol=1e-12)
            else:
                assert mine == others, name
