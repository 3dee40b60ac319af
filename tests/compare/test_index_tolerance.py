"""Indices are compared by the values they choose."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import holds_in_order

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.verdict import Verdict

NAN, INF = np.nan, np.inf


def ties(values, axis=-1):
    return IndexTolerance(values=np.asarray(values), axis=axis, origin="ties have no order")


def test_tied_indices_may_change_places():
    """Both orders of equal values are right; another value is wrong by the difference."""
    tolerance = ties([3.0, 1.0, 3.0, 2.0])
    oracle = np.array([0, 2, 3, 1])
    swapped = compare(oracle, np.array([2, 0, 3, 1]), tolerance)
    assert swapped.verdict is Verdict.PASS
    wrong = compare(oracle, np.array([2, 0, 1, 3]), tolerance)
    assert (wrong.mismatches, wrong.error, wrong.allowed) == (2, 1.0, 0.0)
    assert holds_in_order(wrong.reason, "1, 2 of 4 values", "[2]", "expected 3, got 1")


def test_top_k_may_leave_out_either_of_a_tie():
    """The indices are fewer than the values, and any of the tied ones may be left out."""
    tolerance = ties([[5.0, 4.0, 4.0, 4.0]])
    oracle = np.array([[0, 1]], "int32")
    for other in (2, 3):
        result = np.array([[0, other]], "int32")
        assert compare(oracle, result, tolerance).verdict is Verdict.PASS


def test_an_index_may_not_occur_twice():
    """Two equal values are two elements, and both must be there."""
    tolerance = ties([7.0, 7.0, 7.0])
    comparison = compare(np.array([0, 1]), np.array([2, 2]), tolerance)
    assert (comparison.mismatches, comparison.error) == (2, math.inf)
    assert "twice" in comparison.reason
    half = compare(np.array([0, 1]), np.array([0, 0]), tolerance)
    assert (half.mismatches, half.first_index) == (1, (1,))


def test_an_index_may_occur_twice_if_the_oracle_has_it_twice():
    """That is then how the kernel works; in another lane it is still wrong."""
    tolerance = ties([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    oracle = np.array([[0, 0, 1], [0, 1, 2]])
    assert compare(oracle, np.array([[1, 0, 0], [0, 1, 2]]), tolerance).verdict is Verdict.PASS
    other = compare(oracle, np.array([[0, 0, 1], [2, 0, 0]]), tolerance)
    assert (other.mismatches, other.first_index) == (2, (1, 1))


@pytest.mark.parametrize("index", [-1, 4, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_wrong(index):
    """Whatever NumPy would make of a negative one."""
    comparison = compare(np.array([0, 3], "int32"), np.array([0, index], "int32"), ties(np.ones(4)))
    assert (comparison.mismatches, comparison.error) == (1, math.inf)


def test_nan_is_tied_with_nan_only():
    """And infinities with those of their sign."""
    tolerance = ties([NAN, NAN, INF, INF, -INF, 1.0])
    for left, right, is_tie in [
        (0, 1, True),
        (2, 3, True),
        (2, 4, False),
        (0, 5, False),
        (5, 0, False),
        (2, 5, False),
    ]:
        comparison = compare(np.array([left]), np.array([right]), tolerance)
        assert (comparison.verdict is Verdict.PASS) == is_tie, (left, right)
        assert comparison.error == (0.0 if is_tie else math.inf)


def test_argmax_has_lost_its_axis():
    """Indices without the axis that they count along."""
    values = np.array([[1.0, 2.0, 2.0], [3.0, 0.0, 3.0]])
    tolerance = ties(values, axis=1)
    assert compare(np.array([1, 0]), np.array([2, 2]), tolerance).verdict is Verdict.PASS
    assert compare(np.array([1, 0]), np.array([0, 0]), tolerance).mismatches == 1
    scalar = compare(np.array(1), np.array(0), ties([5.0, 7.0], axis=0))
    assert (scalar.mismatches, scalar.first_index, scalar.error) == (1, (), 2.0)


def test_integers_are_compared_exactly():
    """float64 has one value for both."""
    tolerance = ties([2**53, 2**53 + 1])
    assert compare(np.array([0]), np.array([1]), tolerance).verdict is Verdict.MISMATCH


@pytest.mark.parametrize(
    ("values", "axis"), [((3, 2), 1), ((2,), 0), ((), 0), ((2, 3, 4), 0), ((3, 4), 1)]
)
def test_values_that_do_not_fit_are_refused(values, axis):
    """A wrong axis is a mistake of the suite, not of the device."""
    oracle, result = np.array([[0, 1], [0, 1]]), np.array([[1, 0], [0, 1]])
    if values == (2, 3, 4):
        oracle, result = oracle[0], result[0]
    with pytest.raises(ValueError, match=r"axis \d"):
        compare(oracle, result, ties(np.zeros(values), axis))


def test_nothing_to_choose_from():
    """No index is right along an empty axis."""
    comparison = compare(np.array([[0]]), np.array([[1]]), ties(np.zeros((1, 0))))
    assert comparison.error == math.inf


@given(st.data())
def test_every_sorting_order_passes_and_no_other(data):
    """Against all permutations: a permutation passes if it puts the values in the same order."""
    values = data.draw(
        hnp.arrays(
            np.float32, st.integers(1, 5), elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, NAN, INF])
        )
    )
    oracle = np.argsort(values, kind="stable")
    tolerance = ties(values)
    for permutation in itertools.permutations(range(values.size)):
        result = np.array(permutation)
        is_right = np.array_equal(values[result], values[oracle], equal_nan=True)
        assert (compare(oracle, result, tolerance).verdict is Verdict.PASS) == is_right


@given(st.data())
def test_each_lane_is_judged_for_itself(data):
    """Along any axis, as if each lane came alone."""
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    values = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, NAN])))
    indices = hnp.arrays(np.int64, shape, elements=st.integers(-1, shape[axis]))
    oracle = np.argsort(values, axis=axis)
    result = data.draw(st.one_of(indices, st.just(np.flip(oracle, axis))))
    distance = ties(values, axis).distance(oracle, result)
    lanes = [np.moveaxis(a, axis, -1).reshape(-1, shape[axis]) for a in (values, oracle, result)]
    expected = [ties(v).distance(o, r) for v, o, r in zip(*lanes, strict=True)]
    moved = np.moveaxis(distance, axis, -1).reshape(-1, shape[axis])
    np.testing.assert_array_equal(moved, np.stack(expected))
