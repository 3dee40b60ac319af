"""What the source of a model may be off by, against the framework."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from refusals import holds_in_order

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.framework_tolerance import (
    FACTOR,
    framework_tolerance,
    is_blunt,
    plain_tolerance,
    root_mean_square,
    share_of,
)
from relax_tapml.compare.verdict import Verdict

RNG = np.random.default_rng(0)


def rounded(exact, dtype, seed, times=1.0):
    """Return what a computation in a dtype may give: off by some roundings."""
    rng = np.random.default_rng(seed)
    eps = float(ml_dtypes.finfo(dtype).eps)
    usual = np.sqrt(np.mean(exact**2))
    return (exact + times * eps * usual * rng.standard_normal(exact.shape)).astype(dtype)


def judge(oracle, accurate, actual):
    tolerance = framework_tolerance(oracle, accurate, plain_tolerance(oracle))
    return compare(oracle, actual, tolerance), tolerance


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_source_may_be_as_far_off_as_the_framework_is(dtype):
    """In a model that amplifies rounding, both are; what is wrong is still seen."""
    dtype = np.dtype(dtype)
    exact = np.random.default_rng(0).standard_normal((64, 500))
    amplified = {"float16": 4.0, "bfloat16": 3.0, "float32": 500.0}[dtype.name]
    framework = rounded(exact, dtype, 1, amplified)
    right = rounded(exact, dtype, 2, amplified)
    assert compare(framework, right, plain_tolerance(framework)).verdict is Verdict.MISMATCH
    found, tolerance = judge(framework, exact, right)
    assert found.verdict is Verdict.PASS
    assert not is_blunt(framework, tolerance)
    for wrong in (-right, np.zeros_like(right), np.roll(right, 1, axis=1)):
        assert judge(framework, exact, wrong)[0].verdict is Verdict.MISMATCH
    wrong = (right.astype("float64") * 1.4).astype(dtype)
    assert tolerance.overall_excess(framework, wrong)
    assert not tolerance.overall_excess(framework, right)


def test_each_row_has_its_own_error():
    """A row that the framework gets badly wrong does not excuse the others."""
    exact = RNG.standard_normal((16, 300))
    framework = rounded(exact, np.dtype("float16"), 1)
    framework[3] = rounded(exact[3:4], np.dtype("float16"), 2, 50.0)
    wrong = framework.copy()
    wrong[3] = rounded(exact[3:4], np.dtype("float16"), 3, 50.0)
    assert judge(framework, exact, wrong)[0].verdict is Verdict.PASS
    wrong[5] = wrong[3] = rounded(exact[5:6], np.dtype("float16"), 3, 50.0)
    found = judge(framework, exact, wrong)[0]
    assert found.verdict is Verdict.MISMATCH
    wrong = rounded(exact, np.dtype("float16"), 1)
    wrong[3] = framework[3]
    wrong[5] = rounded(exact[5:6], np.dtype("float16"), 3, 50.0)
    assert judge(framework, exact, wrong)[0].first_index[0] == 5


def test_a_value_that_the_framework_hits_by_luck_is_held_to_the_errors_of_its_row():
    """Its own error is 0."""
    exact = RNG.standard_normal((1, 400))
    framework = rounded(exact, np.dtype("float16"), 1, 4.0)
    exact[0, 7] = framework[0, 7]
    right = rounded(exact, np.dtype("float16"), 2, 4.0)
    assert judge(framework, exact, right)[0].verdict is Verdict.PASS


def test_an_output_that_is_near_zero_almost_everywhere_is_judged_by_its_root_mean_square():
    """A detector that finds little: the median of its scores is not the scale of their errors."""
    exact = np.full((1, 100, 100), 1e-9)
    exact[0, 40:44, 40:80] = RNG.uniform(0.2, 0.9, (4, 40))
    framework = exact.astype("float32")
    noisy = (exact + 3e-8 * RNG.uniform(-1, 1, exact.shape)).astype("float32")
    assert compare(framework, noisy).verdict is Verdict.MISMATCH
    tolerance = plain_tolerance(framework)
    assert compare(framework, noisy, tolerance).verdict is Verdict.PASS
    assert not is_blunt(framework, tolerance)
    assert compare(framework, 1.01 * noisy, tolerance).verdict is Verdict.MISMATCH


def test_mask_values_do_not_count():
    """Or they would excuse every error of the others; large values without a gap do count."""
    values = RNG.standard_normal(1000)
    for mask in (-1e4, -1e9, float(np.finfo("float32").min)):
        masked = np.where(np.arange(1000) < 500, values, mask).astype("float32")
        assert root_mean_square(masked) == pytest.approx(1.0, rel=0.1)
    assert root_mean_square(np.float32([1e-9, 0.5, 0.5])) == pytest.approx(0.41, rel=0.01)
    assert root_mean_square(np.float32([0.0, np.inf, np.nan])) == 0.0


def test_after_a_sigmoid_errors_count_relative_to_one():
    """Where the output is as small as these, the tolerance is blunt, and that is detected."""
    scores = (1 / (1 + np.exp(-RNG.uniform(-19, -15, 1000)))).astype("float32")
    theirs = (np.round(scores.astype("float64") * 2**25) / 2**25).astype("float32")
    assert compare(theirs, scores, plain_tolerance(theirs)).verdict is Verdict.MISMATCH
    tolerance = plain_tolerance(theirs, is_bounded=True)
    assert compare(theirs, scores, tolerance).verdict is Verdict.PASS
    assert is_blunt(theirs, tolerance)
    assert share_of(theirs, tolerance) > 1
    assert not is_blunt(np.float32([0.1, 0.9]), tolerance)


def test_whole_numbers_are_judged_where_rounding_does_not_decide():
    """A class that the framework itself chooses otherwise in float64 is open."""
    framework, accurate = np.int64([3, 1, 4]), np.int64([3, 1, 5])
    tolerance = framework_tolerance(framework, accurate, plain_tolerance(framework))
    found = compare(framework, np.int64([3, 1, 6]), tolerance)
    assert (found.verdict, found.unjudged) == (Verdict.PASS, 1)
    assert compare(framework, np.int64([3, 2, 4]), tolerance).verdict is Verdict.MISMATCH
    assert framework_tolerance(framework, framework, plain_tolerance(framework)) is None


def test_overflow_in_one_precision_only_is_not_judged():
    """65520 is infinite in float16; a NaN of the source where both runs are finite is one."""
    exact = np.array([1.0, 70000.0, 2.0])
    framework = exact.astype("float16")
    found, _ = judge(framework, exact, np.float16([1.0, 65504.0, 2.0]))
    assert (found.verdict, found.unjudged) == (Verdict.PASS, 1)
    assert judge(framework, exact, np.float16([np.nan, 1.0, 2.0]))[0].verdict is Verdict.MISMATCH


def test_a_run_that_is_no_more_accurate_is_not_used():
    """Nor one of another shape."""
    framework = np.ones((2, 3), "float32")
    plain = plain_tolerance(framework)
    assert framework_tolerance(framework, framework, plain) is None
    assert framework_tolerance(framework, np.ones((3, 2)), plain) is None
    assert framework_tolerance(framework, np.ones((2, 3)), plain) is not None


def test_the_origin_names_the_factor_and_both_precisions():
    """And the floor."""
    framework = np.float16([[1.0, 2.0]])
    found = framework_tolerance(framework, np.array([[1.001, 2.0]]), plain_tolerance(framework))
    assert holds_in_order(found.origin, f"{FACTOR:g} times", "float16", "float64", "8 eps")


def test_a_tensor_of_many_blocks_is_judged_part_by_part():
    """The bounds go with the values."""
    exact = RNG.standard_normal((3, 50_000))
    framework = rounded(exact, np.dtype("float16"), 1, 4.0)
    right = rounded(exact, np.dtype("float16"), 2, 4.0)
    assert judge(framework, exact, right)[0].verdict is Verdict.PASS
    right[2, 49_999] += np.float16(2)
    assert judge(framework, exact, right)[0].first_index == (2, 49_999)
