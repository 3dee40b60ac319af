"""A device's choices are replaced by the source's where both are right."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from choosing_models import ROUTES, Inside, Logits, Pick, Route

from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.migrate._choosing_units import choosing_units
from relax_tapml.migrate.choices import SourceChoices, other_choice
from relax_tapml.partition.lower import lower
from relax_tapml.passes.replace_choices import OBSERVE, REPLACE
from relax_tapml.targets.session.tvm_device import device_of

SITE = "main/000/topk"
VALUES, PLACES = np.array([[2, 2], [3, 1], [4, 3]], "float32"), np.array([[1, 2], [0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("module", "units"),
    [
        (Pick, {"fused_argmax_less_add_where"}),
        (Route, {"topk"}),
        (Inside, {"choose"}),
        (Logits, {"argmax"}),
    ],
)
def test_units_that_choose_are_known(module, units):
    """Top-k by its operator, others by their kernels."""
    assert set(choosing_units(lower(module))) == units


class Calls:
    """Calls what ``ReplaceChoices`` puts into a program."""

    def __init__(self):
        self.choices = SourceChoices(lower(Route))
        self._callbacks = self.choices.callbacks(device_of(tvm.target.Target("llvm")))

    def __call__(self, values, places, scores=ROUTES):
        tensors = [tvm.runtime.tensor(array) for array in (scores, values, places)]
        self._callbacks[OBSERVE](SITE, tensors[0])
        return [t.numpy() for t in self._callbacks[REPLACE](SITE, *tensors[1:])]


@pytest.fixture
def calls():
    """One call is recorded, and disturbed as little as a kernel's rounding does."""
    calls = Calls()
    with calls.choices.recording(0):
        calls(VALUES, PLACES)
    for factor in (1 + 1e-7, 1 - 1e-7):
        with calls.choices.disturbed(0):
            replaced = calls(VALUES * np.float32(factor), PLACES[:, ::-1], ROUTES * factor)
            np.testing.assert_array_equal(replaced[1], PLACES)
    return calls


def test_other_choices_that_are_as_good_become_the_source_s(calls):
    """The values that come with them stay."""
    theirs = np.array([[2, 1], [0, 3], [0, 1]])
    with calls.choices.replaced(0) as ties:
        values, places = calls(VALUES + np.float32(1e-6), theirs)
    np.testing.assert_array_equal(places, PLACES)
    np.testing.assert_array_equal(values, VALUES + np.float32(1e-6))
    assert ties.sentences("a") == [
        f"on 'a', {SITE}: 3 of 12 values are another choice among equal scores, or scores that "
        "rounding may swap"
    ]


def test_a_worse_choice_stays(calls):
    """And so does what follows from it; a call that the source did not make stays, too."""
    theirs = np.array([[1, 2], [1, 0], [0, 3]])
    with calls.choices.replaced(0) as ties:
        assert (calls(VALUES, theirs)[1] == theirs).all()
        assert (calls(VALUES, theirs)[1] == theirs).all()
    assert ties.sentences("a") == []


@pytest.mark.parametrize("turn", range(4))
def test_another_choice_is_as_good(turn):
    """Of top-k, in whatever order; of a kernel that chooses inside, one of its alternatives."""
    how = IndexTolerance(values=ROUTES, axis=1, origin="")
    other = other_choice(PLACES, how, turn)
    assert (how.distance(PLACES, other) == 0).all()
    if turn == 0:
        np.testing.assert_array_equal(other, [[2, 1], [0, 3], [0, 1]])
    others = np.array([[2, 0], [3, 0]])
    how = ChoiceTolerance(base=EqualTolerance(origin=""), alternatives=others, origin="")
    assert other_choice(np.array([1, 0]), how, turn).tolist() in others.tolist()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_each_of_equal_scores_gets_another_place(axis, sign):
    """Also the one in the middle of three, which the last of equal scores first leaves there."""
    scores = np.random.default_rng(0).integers(0, 9, (30, 30)).astype("float32")
    places = np.argsort(sign * scores, axis=axis, kind="stable")
    how = IndexTolerance(values=scores, axis=axis, origin="")
    others = [other_choice(places, how, turn) for turn in (0, 1)]
    ordered = np.moveaxis(np.take_along_axis(scores, places, axis), axis, -1)
    is_same = ordered[..., 1:] == ordered[..., :-1]
    edge = np.zeros((30, 1), bool)
    is_tied = np.concatenate([edge, is_same], -1) | np.concatenate([is_same, edge], -1)
    moved = np.moveaxis((others[0] != places) | (others[1] != places), axis, -1)
    np.testing.assert_array_equal(moved, is_tied)
    assert all((how.distance(places, other) == 0).all() for other in others)


def test_where_there_is_no_other_choice_the_oracle_stays():
    """No score is equal, or the result is no choice."""
    oracle = np.array([[3, 2]])
    values = np.array([[0.0, 1.0, 2.0, 3.0]])
    for how in (IndexTolerance(values=values, axis=1, origin=""), EqualTolerance(origin="")):
        np.testing.assert_array_equal(other_choice(oracle, how, 1), oracle)
