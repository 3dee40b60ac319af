"""Operators that each side lowers in its own way."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive.operators import operator_tolerances

X = np.array([[3.0, 1.0, 3.0, 2.0]], np.float32)


def call(operator, **options):
    return operator(relax.Var("x", relax.TensorType(X.shape, "float32")), **options)


@pytest.mark.parametrize(
    ("made", "kinds"),
    [
        (call(relax.op.sort), [EqualTolerance]),
        (call(relax.op.argsort), [IndexTolerance]),
        (call(relax.op.topk, k=2, ret_type="both"), [EqualTolerance, IndexTolerance]),
        (call(relax.op.topk, k=2, ret_type="values"), [EqualTolerance]),
        (call(relax.op.topk, k=2, ret_type="indices"), [IndexTolerance]),
    ],
)
def test_chosen_values_are_equal_and_indices_choose_equal_values(made, kinds):
    found = operator_tolerances(made, [X], [X] * len(kinds))
    assert [type(tolerance) for tolerance in found] == kinds


def test_ties_may_be_sorted_either_way():
    (tolerance,) = operator_tolerances(call(relax.op.argsort, axis=1), [X], [X])
    oracle = np.array([[1, 3, 0, 2]], np.int32)
    other, wrong = np.array([[1, 3, 2, 0]], np.int32), np.array([[3, 1, 0, 2]], np.int32)
    assert compare(oracle, other, tolerance).verdict is Verdict.PASS
    assert compare(oracle, wrong, tolerance).verdict is Verdict.MISMATCH


def test_a_running_sum_may_run_in_any_order():
    """Each prefix has the bound of a sum of its own magnitude."""
    x = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    variable = relax.Var("x", relax.TensorType(x.shape, "float32"))
    oracle = np.cumsum(x, axis=1)
    (tolerance,) = operator_tolerances(relax.op.cumsum(variable, axis=1), [x], [oracle])
    blocks = np.concatenate(
        [np.cumsum(x[:, :256], 1), x[:, :256].sum(1)[:, None] + np.cumsum(x[:, 256:], 1)], 1
    )
    assert (blocks != oracle).any()
    assert compare(oracle, blocks, tolerance).verdict is Verdict.PASS
    shifted = oracle - x
    assert compare(oracle, shifted, tolerance).mismatches > 1000
    allowed = tolerance.allowed(oracle)
    assert (allowed[:, -1] > 20 * allowed[:, 0]).all()


def test_another_operator_is_not_known():
    """It is judged by the rule of its dtype."""
    assert operator_tolerances(call(relax.op.exp), [X], [X]) is None
    assert operator_tolerances(call(relax.op.cumsum, exclusive=True), [X], [X]) is None
