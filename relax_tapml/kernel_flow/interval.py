"""Bounds of integer expressions of TIR, exact where every variable has one value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, bitwise, prim
from relax_tapml.kernel_flow.expressions import choice_of, is_integer_expr


@dataclass(frozen=True)
class Interval:
    """Every integer from ``low`` to ``high``, both included."""

    low: int
    high: int

    @property
    def is_point(self) -> bool:
        """Whether it holds one integer."""
        return self.low == self.high

    def clipped(self, other: Interval) -> Interval | None:
        """Return what both hold; None if nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else None


Environment = Mapping[tirx.Var, Interval]
LoadBounds = Callable[[TensorLoad, Environment], Interval | None]

_LOGICAL = (prim.And, prim.Or)
_COMPARISONS = (prim.LT, prim.LE, prim.GT, prim.GE, prim.EQ, prim.NE)
_MAX_SHIFT = 64


def _unknown(_load: TensorLoad, _environment: Environment) -> None:
    return None


def bounds(
    expr: ir_expr.Expr | int, environment: Environment, load: LoadBounds = _unknown
) -> Interval | None:
    """Return bounds of an integer or bool expression; None where they are not known.

    Parameters
    ----------
    expr
        The expression; bool is 0 or 1.
    environment
        Bounds of variables.
    load
        Returns the bounds of an element that the expression loads, or None; by default None.
    """

    def of(part: ir_expr.Expr) -> Interval | None:
        return bounds(part, environment, load)

    bits = bitwise(expr)
    if bits is not None:
        operation, *operands = bits
        return _bitwise(operation, *map(of, operands))
    choice = choice_of(expr)
    if choice is not None:
        condition, true_value, false_value = choice
        return _chosen(of(condition), true_value, false_value, of)
    match expr:
        case int():
            return Interval(expr, expr)
        case prim.IntImm():
            return Interval(int(expr.value), int(expr.value))
        case tirx.Var():
            return environment.get(expr)
        case TensorLoad():
            return load(expr, environment)
        case prim.Cast():
            # A float that becomes an integer is not followed.
            return of(expr.value) if is_integer_expr(expr) and is_integer_expr(expr.value) else None
        case prim.Let():
            value = of(expr.value)
            inner = dict(environment) if value is None else {**environment, expr.var: value}
            return bounds(expr.body, inner, load)
        case prim.Not():
            value = of(expr.a)
            return None if value is None else Interval(1 - value.high, 1 - value.low)
        case prim.BinaryOpExpr() | prim.CmpExpr() | prim.LogicalExpr():
            left, right = of(expr.a), of(expr.b)
            if left is None or right is None:
                return _half_known(expr, left, right)
            return _binary(type(expr), left, right)
    return None


def _chosen(
    condition: Interval | None,
    true_value: ir_expr.Expr,
    false_value: ir_expr.Expr,
    of: Callable[[ir_expr.Expr], Interval | None],
) -> Interval | None:
    if condition is not None and condition.is_point:
        return of(true_value if condition.low else false_value)
    left, right = of(true_value), of(false_value)
    if left is None or right is None:
        return None
    return Interval(min(left.low, right.low), max(left.high, right.high))


def _half_known(
    expr: ir_expr.Expr, left: Interval | None, right: Interval | None
) -> Interval | None:
    """Return what a logical expression is whatever its unknown side is."""
    known = left or right
    if known is not None:
        if isinstance(expr, prim.And) and known.high == 0:
            return Interval(0, 0)
        if isinstance(expr, prim.Or) and known.low == 1:
            return Interval(1, 1)
    return None


def _binary(kind: type, a: Interval, b: Interval) -> Interval | None:
    if kind in _LOGICAL or kind in _COMPARISONS:
        return _truth(kind, a, b)
    if kind is prim.Add:
        return Interval(a.low + b.low, a.high + b.high)
    if kind is prim.Sub:
        return Interval(a.low - b.high, a.high - b.low)
    if kind is prim.Mul:
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return Interval(min(corners), max(corners))
    if kind is prim.Min:
        return Interval(min(a.low, b.low), min(a.high, b.high))
    if kind is prim.Max:
        return Interval(max(a.low, b.low), max(a.high, b.high))
    return _divided(kind, a, b)


def _bitwise(
    operation: Callable[[int, int], int], a: Interval | None, b: Interval | None
) -> Interval | None:
    if a is None or b is None or not (a.is_point and b.is_point):
        return None
    if operation in (operator.lshift, operator.rshift) and not 0 <= b.low < _MAX_SHIFT:
        return None
    value = operation(a.low, b.low)
    return Interval(value, value)


def _divided(kind: type, a: Interval, b: Interval) -> Interval | None:
    """Division and remainder by one positive number, rounded down.

    Those that round to zero are the same where nothing is negative.
    """
    if not b.is_point or b.low <= 0 or (kind in (prim.Div, prim.Mod) and a.low < 0):
        return None
    by = b.low
    if kind in (prim.FloorDiv, prim.Div):
        return Interval(a.low // by, a.high // by)
    if kind in (prim.FloorMod, prim.Mod):
        if a.low // by == a.high // by:
            return Interval(a.low % by, a.high % by)
        return Interval(0, by - 1)
    return None


def _truth(kind: type, a: Interval, b: Interval) -> Interval:
    match kind:
        case prim.And:
            return Interval(a.low & b.low, a.high & b.high)
        case prim.Or:
            return Interval(a.low | b.low, a.high | b.high)
        case prim.LT:
            always, never = a.high < b.low, a.low >= b.high
        case prim.LE:
            always, never = a.high <= b.low, a.low > b.high
        case prim.GT:
            always, never = a.low > b.high, a.high <= b.low
        case prim.GE:
            always, never = a.low >= b.high, a.high < b.low
        case _:
            equal = a.is_point and b.is_point and a.low == b.low
            apart = a.clipped(b) is None
            always, never = (equal, apart) if kind is prim.EQ else (apart, equal)
    return Interval(int(always), int(not never))
