"""Bounds hold every value that an expression can have."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.kernel_flow.interval import Interval, bounds

X, Y = tirx.Var("x", "int64"), tirx.Var("y", "int64")
BINARY = [
    (prim.Add, lambda a, b: a + b),
    (prim.Sub, lambda a, b: a - b),
    (prim.Mul, lambda a, b: a * b),
    (prim.Min, min),
    (prim.Max, max),
    (prim.LT, lambda a, b: int(a < b)),
    (prim.LE, lambda a, b: int(a <= b)),
    (prim.GT, lambda a, b: int(a > b)),
    (prim.GE, lambda a, b: int(a >= b)),
    (prim.EQ, lambda a, b: int(a == b)),
    (prim.NE, lambda a, b: int(a != b)),
]
DIVISIONS = [
    (prim.FloorDiv, lambda a, b: a // b),
    (prim.FloorMod, lambda a, b: a % b),
    (prim.Div, lambda a, b: int(a / b)),
    (prim.Mod, lambda a, b: a - int(a / b) * b),
]
RANGES = st.tuples(st.integers(-9, 9), st.integers(0, 5)).map(lambda p: Interval(p[0], sum(p)))


def _constant(value):
    return tirx.IntImm("int64", value)


def _trees():
    leaf = st.sampled_from([(X, lambda x, y: x), (Y, lambda x, y: y)]) | st.integers(-5, 5).map(
        lambda n: (_constant(n), lambda x, y: n)
    )

    def grown(children):
        def binary(kind, left, right):
            node, compute = kind
            return node(left[0], right[0]), lambda x, y: compute(left[1](x, y), right[1](x, y))

        def division(kind, left, by):
            node, compute = kind
            return node(left[0], _constant(by)), lambda x, y: compute(left[1](x, y), by)

        arithmetic = st.sampled_from(BINARY[:5])
        return st.builds(binary, arithmetic, children, children) | st.builds(
            division, st.sampled_from(DIVISIONS), children, st.integers(1, 7)
        )

    return st.recursive(leaf, grown, max_leaves=5)


@settings(max_examples=200, derandomize=True)
@given(tree=_trees(), x=RANGES, y=RANGES, outer=st.sampled_from(BINARY), other=_trees())
def test_bounds_hold_every_value(tree, x, y, outer, other):
    node, compute = outer
    found = bounds(node(tree[0], other[0]), {X: x, Y: y}, lambda load, env: None)
    values = [
        compute(tree[1](a, b), other[1](a, b))
        for a, b in itertools.product(range(x.low, x.high + 1), range(y.low, y.high + 1))
    ]
    if found is not None:
        assert found.low <= min(values)
        assert max(values) <= found.high


@settings(max_examples=100, derandomize=True)
@given(tree=_trees(), x=st.integers(0, 9), y=st.integers(0, 9))
def test_points_give_points(tree, x, y):
    """With every variable known, an expression has one value, or none is claimed."""
    environment = {X: Interval(x, x), Y: Interval(y, y)}
    found = bounds(tree[0], environment, lambda load, env: None)
    assert found is None or found == Interval(tree[1](x, y), tree[1](x, y))


NONE, SIX = tirx.Var("unknown", "int64"), tirx.Var("six", "int64")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (NONE, None),
        (prim.And(NONE < 3, X < 0), Interval(0, 0)),
        (prim.Or(X >= 0, NONE < 3), Interval(1, 1)),
        (prim.Not(X < 0), Interval(1, 1)),
        (prim.Select(X < 5, X, NONE), Interval(1, 4)),
        (tirx.if_then_else(X > 5, NONE, X), Interval(1, 4)),
        (tirx.if_then_else(NONE > 5, NONE, X), None),
        (prim.FloorMod(X, NONE), None),
        (prim.Cast("int32", X), Interval(1, 4)),
        (prim.Cast("int64", prim.Cast("float32", X)), None),
        (SIX & 3, Interval(2, 2)),
        (SIX << 1, Interval(12, 12)),
        (SIX << (SIX * 40), None),
        (prim.Let(Y, X + 1, Y * 2), Interval(4, 10)),
    ],
)
def test_what_is_not_known_is_not_claimed(expr, expected):
    environment = {X: Interval(1, 4), SIX: Interval(6, 6)}
    assert bounds(expr, environment, lambda load, env: None) == expected
