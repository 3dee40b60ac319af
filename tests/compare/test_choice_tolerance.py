"""Several oracles for one result, and indices whose values may be off."""

from __future__ import annotations

import numpy as np
import pytest

from relax_tapml.compare.choice_comparison import compare_with_choices
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.verdict import Verdict

ORACLE = np.array([[1, 2], [3, 4]], "float32")
OTHERS = np.array([[[5, 6], [3, 4]], [[1, 2], [np.nan, np.inf]]], "float32")
RULE = RuleTolerance(atol=0.1, rtol=0.0, origin="a tenth")


def tolerance(base=RULE, others=OTHERS):
    return ChoiceTolerance(base=base, alternatives=others, origin="any")


@pytest.mark.parametrize(
    ("actual", "ties"),
    [
        ([[1, 2], [3, 4]], 0),
        ([[1.05, 2], [3, 4.05]], 0),
        ([[5.05, 6], [3, 4]], 2),
        ([[5, 2], [np.nan, np.inf]], 3),
    ],
)
def test_each_value_may_be_near_any_oracle(actual, ties):
    """The metrics are those of the nearest."""
    found = compare(ORACLE, np.array(actual, "float32"), tolerance())
    assert (found.verdict, found.ties) == (Verdict.PASS, ties)
    assert found.max_abs < 0.1


@pytest.mark.parametrize("actual", [[[3, 2], [3, 4]], [[1, 2], [np.inf, 4]], [[np.nan, 2], [3, 4]]])
def test_no_value_may_be_between_them(actual):
    """What is near none is compared with the oracle."""
    found = compare(ORACLE, np.array(actual, "float32"), tolerance())
    assert (found.verdict, found.mismatches) == (Verdict.MISMATCH, 1)


def test_whole_numbers_may_be_another_choice():
    """Exactly."""
    oracle, others = np.array([1, 0]), np.array([[3, 0]])
    how = tolerance(EqualTolerance(origin="equal"), others)
    assert compare(oracle, np.array([3, 0]), how).ties == 1
    assert compare(oracle, np.array([2, 0]), how).verdict is Verdict.MISMATCH


def test_alternatives_of_another_shape_are_refused():
    """They are for another output."""
    with pytest.raises(ValueError, match="alternatives"):
        compare(np.zeros(3, "float32"), np.zeros(3, "float32"), tolerance())


def test_indices_of_values_that_may_be_off():
    """Each of the two values may be off by its slack; an index out of range is wrong."""
    values = np.array([[1.0, 1.2, 5.0]])
    slack = np.array([[0.1, 0.15, 0.0]])
    how = IndexTolerance(values=values, axis=1, origin="ties", slack=slack)
    oracle = np.array([1])
    assert compare(oracle, np.array([0]), how).ties == 1
    assert compare(oracle, np.array([2]), how).verdict is Verdict.MISMATCH
    assert compare(oracle, np.array([3]), how).verdict is Verdict.MISMATCH


def test_a_framework_may_be_met_by_any_choice():
    """What depends on a choice and is met by none is not judged; all else is."""
    mine, other = np.array([1, 2, 3], "float32"), np.array([1, 7, 3], "float32")
    (found,) = compare_with_choices([other], [mine], [[other]])
    assert (found.verdict, found.unjudged, found.ties) == (Verdict.PASS, 0, 1)
    (found,) = compare_with_choices([np.array([1, 9, 3], "float32")], [mine], [[other]])
    assert (found.verdict, found.unjudged) == (Verdict.PASS, 1)
    (found,) = compare_with_choices([np.array([9, 7, 3], "float32")], [mine], [[other]])
    assert (found.verdict, found.first_index) == (Verdict.MISMATCH, (0,))


def test_a_framework_with_other_outputs_is_compared_as_it_is():
    """One too many, or of another shape."""
    mine = np.zeros(2, "float32")
    assert compare_with_choices([mine], [mine, mine], [[mine, mine]])[1].verdict is Verdict.MISMATCH
    (found,) = compare_with_choices([np.zeros(3, "float32")], [mine], [[mine]])
    assert "[3], got [2]" in found.reason
