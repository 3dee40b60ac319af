"""Whether a model gives the same answers, apart from how far its numbers are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relax_tapml.compare.agreement import Agreement, agreement, joined
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.frontend.model import Meaning

EXACT = RuleTolerance(atol=0.0, rtol=0.0, origin="test")
LOGITS = np.array([[[0.0, 3.0, 1.0], [2.0, 1.99, 0.0], [5.0, 1.0, 4.0]]], "float32")


def logits(*rows):
    return np.array([rows], "float32")


def test_the_same_logits_say_the_same():
    found = agreement(Meaning.TOKENS, LOGITS, LOGITS, EXACT)
    assert (found.total, found.same, found.ties, found.diverged) == (3, 3, 0, 0)


@pytest.mark.parametrize(
    ("atol", "same", "ties", "diverged"), [(0.0, 2, 0, 1), (0.004, 2, 0, 1), (0.006, 2, 1, 0)]
)
def test_another_token_is_a_tie_where_both_logits_may_be_that_far_off(atol, same, ties, diverged):
    """The source leads by 0.01: a tie if each may be off by more than 0.005."""
    other = logits([0.0, 3.0, 1.0], [1.99, 2.0, 0.0], [5.0, 1.0, 4.0])
    tolerance = RuleTolerance(atol=atol, rtol=0.0, origin="test")
    found = agreement(Meaning.TOKENS, LOGITS, other, tolerance)
    assert (found.same, found.ties, found.diverged) == (same, ties, diverged)


def test_a_token_the_source_is_sure_about_diverges():
    """However far its own logit may be off in other places."""
    other = logits([0.0, 0.5, 1.0], [2.0, 1.99, 0.0], [5.0, 1.0, 4.0])
    bound = np.full(LOGITS.shape, 0.01)
    found = agreement(Meaning.TOKENS, LOGITS, other, ElementTolerance(bound=bound, origin="test"))
    assert (found.same, found.ties, found.diverged) == (2, 0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_diverges(bad):
    """A NaN is no answer, also where the source's choice is the largest of the rest."""
    other = LOGITS.copy()
    other[0, 0, 0] = bad
    found = agreement(Meaning.TOKENS, LOGITS, other, RuleTolerance(atol=9, rtol=0, origin="t"))
    assert (found.same, found.diverged + found.ties) == (2, 1)
    if math.isnan(bad):
        assert found.diverged == 1


def test_best_guesses_may_come_in_another_order():
    """Five of seven: the order does not count, the sixth does."""
    oracle = np.array([[7.0, 6, 5, 4, 3, 2, 1], [7, 6, 5, 4, 3, 2, 1]])
    other = np.array([[7.0, 5, 6, 4, 3, 2, 1], [7, 6, 5, 4, 2, 3, 1]])
    found = agreement(Meaning.CLASSES, oracle, other, EXACT)
    assert (found.total, found.same, found.best) == (2, 2, 1)


def test_an_embedding_is_its_direction():
    """The length does not count; the result has the lowest cosine."""
    oracle = np.array([[1.0, 0.0], [1.0, 1.0]])
    found = agreement(Meaning.EMBEDDING, oracle, np.array([[2.0, 0.0], [1.0, 0.0]]), EXACT)
    assert found.cosine == pytest.approx(math.sqrt(0.5))
    assert found.document()["cosine"] == found.cosine
    none = agreement(Meaning.EMBEDDING, oracle, np.array([[0.0, 0.0], [1.0, 0.0]]), EXACT)
    assert (none.same, none.document()["cosine"]) == (1, None)


def test_another_shape_does_not_agree():
    found = agreement(Meaning.TOKENS, LOGITS, LOGITS[:, :2], EXACT)
    assert (found.total, found.same, found.diverged) == (1, 0, 1)


@pytest.mark.parametrize("meaning", list(Meaning))
def test_no_values_say_nothing(meaning):
    empty = np.zeros((3, 0))
    assert agreement(meaning, empty, empty, EXACT).total == 0


def test_several_outputs_are_joined():
    """Counts add up; the lowest cosine stays."""
    a = Agreement(meaning=Meaning.CLASSES, total=3, same=2, ties=1, best=3)
    b = Agreement(meaning=Meaning.CLASSES, total=2, same=1, best=1)
    both = joined([a, b])
    assert (both.total, both.same, both.ties, both.best, both.diverged) == (5, 3, 1, 4, 1)
    c, d = (Agreement(meaning=Meaning.EMBEDDING, total=1, same=1, cosine=x) for x in (0.9, 0.8))
    assert joined([c, d]).cosine == 0.8
    assert joined([]) is None
