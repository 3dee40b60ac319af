"""A kernel that chooses by a score is evaluated with every choice that is right."""

from __future__ import annotations

import numpy as np
import pytest
from choosing_models import SCORES, TABLE, Inside, Lowest, Pick, fused
from tvm import relax, tirx

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive._chooser import choosers
from relax_tapml.derive.choice_derivation import MOST_CHOICES, ChoiceDerivation, derivation_of
from relax_tapml.derive.derivation import Derivation
from relax_tapml.partition.lower import lower


@pytest.fixture(scope="module")
def wrapped():
    return derivation_of(fused(lower(Pick)), [1])


def judged(derivation, arguments, oracle, actual, slack=None):
    (tolerance,) = derivation.tolerances(arguments, {}, [oracle], slack)
    return compare(oracle, np.array(actual, oracle.dtype), tolerance)


@pytest.mark.parametrize(
    ("actual", "ties"), [([1, 0, 0], 0), ([2, 0, 3], 2), ([1, 0, 1], 1), ([2, 0, 2], 2)]
)
def test_any_of_equal_scores_is_right(wrapped, actual, ties):
    """In each row for itself, through the wrap; what differs from the oracle is counted."""
    found = judged(wrapped, {0: SCORES}, np.array([1, 0, 0]), actual)
    assert (found.verdict, found.ties) == (Verdict.PASS, ties)


@pytest.mark.parametrize("actual", [[0, 0, 0], [1, 1, 0], [3, 0, 0], [1, 0, 4], [1, 0, -1]])
def test_no_other_is(wrapped, actual):
    """A smaller score, or none at all."""
    found = judged(wrapped, {0: SCORES}, np.array([1, 0, 0]), actual)
    assert (found.verdict, found.mismatches) == (Verdict.MISMATCH, 1)


def test_without_equal_scores_there_is_one_choice(wrapped):
    """And nothing is said of others."""
    scores = np.array([[0, 1, 2, 3]] * 3, "float32")
    (tolerance,) = wrapped.tolerances({0: scores}, {}, [np.array([3, 3, 3])])
    assert isinstance(tolerance, EqualTolerance)


def test_scores_that_may_be_off_may_be_swapped():
    """As far as the scores may be off, and no farther."""
    derivation = derivation_of(fused(lower(Pick)), [1], is_perturbed=True)
    scores = np.array([[1.0, 1.5, 0.0, 0.0]] * 3, "float32")
    oracle = np.array([1, 1, 1])
    near, far = np.full(scores.shape, 0.3), np.full(scores.shape, 0.2)
    assert judged(derivation, {0: scores}, oracle, [0, 1, 0], {0: near}).ties == 2
    assert judged(derivation, {0: scores}, oracle, [2, 1, 1], {0: near}).mismatches == 1
    assert judged(derivation, {0: scores}, oracle, [0, 1, 0], {0: far}).mismatches == 2


def test_an_index_that_keeps_its_axis_and_is_the_lowest():
    """Times two: no number between two choices is right."""
    derivation = derivation_of(fused(lower(Lowest)), [1])
    oracle = np.array([[2], [0], [0]])
    assert judged(derivation, {0: -SCORES}, oracle, [[4], [0], [6]]).ties == 2
    assert judged(derivation, {0: -SCORES}, oracle, [[3], [0], [0]]).mismatches == 1


def test_what_is_loaded_by_a_choice():
    """The score is the square, which is rounded; each row is any of the rows it may be."""
    derivation = derivation_of(fused(lower(Inside)), [2])
    scores = np.array([[0.3, 1.1, -1.1, 1], [3, 1, 0, -1], [0.7, 0.1, 0.1, 0.1]], "float32")
    arguments = {0: scores, 1: TABLE}
    oracle = TABLE[[1, 0, 0]] * 2
    assert judged(derivation, arguments, oracle, TABLE[[2, 0, 0]] * 2).ties == 6
    found = judged(derivation, arguments, oracle, TABLE[[3, 0, 0]] * 2)
    assert found.first_index[0] == 0
    assert found.verdict is Verdict.MISMATCH
    assert judged(derivation, arguments, oracle, TABLE[[1, 0, 1]] * 2).mismatches >= 5


def test_more_equal_scores_than_are_tried_are_not_judged():
    """In the rows that have them; the others are."""
    size = MOST_CHOICES + 1
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([2, size], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            index = builder.emit(relax.op.argmax(x, axis=1))
            more = relax.op.add(index, relax.const(1, "int64"))
            result = builder.emit_output(more)
        builder.emit_func_output(result)
    derivation = derivation_of(fused(lower(builder.get())), [1])
    scores = np.zeros((2, size), "float32")
    scores[1, 5] = 1
    oracle = np.array([1, 6])
    found = judged(derivation, {0: scores}, oracle, [9, 6])
    assert (found.verdict, found.unjudged) == (Verdict.PASS, 1)
    assert judged(derivation, {0: scores}, oracle, [9, 7]).verdict is Verdict.MISMATCH


def test_a_probe_has_the_first_choice_as_oracle_and_the_others_beside_it(wrapped):
    """No source ran on it."""
    (oracle,), (tolerance,) = wrapped.evaluated({0: SCORES}, {}, [np.zeros(3, "int64")])
    np.testing.assert_array_equal(oracle, [1, 0, 0])
    assert isinstance(tolerance, ChoiceTolerance)


def test_a_row_with_nan_has_the_choice_of_the_kernel_only(wrapped):
    """Which of them it is depends on how the kernel compares."""
    scores = SCORES.copy()
    scores[2, 1] = np.nan
    (oracle,), _ = wrapped.evaluated({0: scores}, {}, [np.zeros(3, "int64")])
    assert judged(wrapped, {0: scores}, oracle, oracle).verdict is Verdict.PASS


def test_kernels_that_choose_nothing_are_derived_as_ever():
    """A plain sum has no index."""
    kernels = [f for f in lower(Pick).functions.values() if isinstance(f, tirx.PrimFunc)]
    kinds = {type(derivation_of(kernel, [len(kernel.params) - 1])) for kernel in kernels}
    assert kinds == {Derivation, ChoiceDerivation}
    assert sum(bool(choosers(kernel)) for kernel in kernels) == 1
