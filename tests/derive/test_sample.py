"""Calls that take too long to evaluate: derived bounds for a sample, a rule for the others."""

from __future__ import annotations

import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.derive import _evaluation, _sample
from relax_tapml.derive.derivation import Derivation


def softmax(x):
    return relax.op.nn.softmax(x, axis=-1)


def evaluate(function, arguments, like):
    return Derivation(function, [len(arguments)]).evaluated(arguments, {}, [like])


@pytest.fixture
def long(monkeypatch):
    """Let a kernel of more than 4000 iterations be too long, and a sample have 2000."""
    monkeypatch.setattr(_evaluation, "MOST_ITERATIONS", 4000)
    monkeypatch.setattr(_sample, "SAMPLED_ITERATIONS", 2000)


@pytest.mark.parametrize(
    ("body", "shapes", "dtype"),
    [
        (relax.op.matmul, [(5, 64), (64, 40)], "float32"),
        (softmax, [(4, 7, 64)], "float16"),
        (relax.op.exp, [(64, 80)], "float32"),
    ],
    ids=["matmul", "softmax", "exp"],
)
def test_a_sample_has_the_bounds_of_the_whole(body, shapes, dtype, long):
    """Others have the rule of their dtype, at least as wide as the sample shows; both are told."""
    function = kernel(body, *((shape, dtype) for shape in shapes))
    rng = np.random.default_rng(0)
    arguments = {n: rng.standard_normal(s).astype(dtype) for n, s in enumerate(shapes)}
    last = function.params[len(shapes)]
    like = np.zeros([int(extent) for extent in last.shape], dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_evaluation, "MOST_ITERATIONS", 1e9)
        [oracle], [whole] = evaluate(function, arguments, like)
    assert evaluate(function, arguments, like) is None
    [tolerance] = Derivation(function, [len(shapes)]).tolerances(arguments, {}, [oracle])
    share = tolerance.allowed(oracle) / whole.allowed(oracle)
    assert 0.01 < (share == 1).mean() < 0.9
    assert (share >= 1).all()
    assert "loop iterations" in tolerance.origin
    assert f"of {oracle.size} elements" in tolerance.origin


def test_without_a_free_axis_the_rule_remains(long):
    """A sum of everything has no elements to sample."""
    function = kernel(lambda x: relax.op.sum(x), ((80, 64), "float32"))
    x = np.ones((80, 64), np.float32)
    [tolerance] = Derivation(function, [1]).tolerances({0: x}, {}, [np.float32(5120)[...]])
    assert isinstance(tolerance, RuleTolerance)
    assert "loop iterations" in tolerance.origin


def test_products_have_a_limit_of_their_own(monkeypatch):
    """Below it a product of any size is evaluated; above, what it would add up is the reason."""
    monkeypatch.setattr(_evaluation, "EXACT_ITERATIONS", 100)
    monkeypatch.setattr(_evaluation, "MOST_ITERATIONS", 1000)
    monkeypatch.setattr(_evaluation, "MOST_TERMS", 5 * 64 * 40)
    shapes = {0: (5, 64), 1: (64, 40), 2: (5, 40)}
    function = kernel(relax.op.matmul, (shapes[0], "float32"), (shapes[1], "float32"))
    assert not Derivation(function, [2]).too_long(shapes, {})
    monkeypatch.setattr(_evaluation, "MOST_TERMS", 5 * 64 * 40 - 1)
    derivation = Derivation(function, [2])
    assert "add up 1e+04 products" in derivation.too_long(shapes, {})
    assert not derivation.too_long(shapes, {}, is_exact=True)  # Which takes a share of the time.
