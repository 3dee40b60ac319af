"""Values of integer expressions of TIR for many values of their variables at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml._compat import TensorLoad, bitwise, prim
from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.expressions import choice_of, is_integer_expr
from relax_tapml.kernel_flow.stores import NotAnalyzableError

Loader = Callable[[TensorLoad, list[Array]], Array]

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    prim.Add: np.add,
    prim.Sub: np.subtract,
    prim.Mul: np.multiply,
    prim.Min: np.minimum,
    prim.Max: np.maximum,
    prim.LT: np.less,
    prim.LE: np.less_equal,
    prim.GT: np.greater,
    prim.GE: np.greater_equal,
    prim.EQ: np.equal,
    prim.NE: np.not_equal,
    prim.And: np.logical_and,
    prim.Or: np.logical_or,
}


def integer_values(expr: Any, environment: Mapping[tirx.Var, Array], load: Loader) -> Array:
    """Return the values of an integer or bool expression, as int64.

    Parameters
    ----------
    expr
        The expression.
    environment
        Values of its variables; their shapes broadcast.
    load
        Returns the elements that a load reads, by the values of its indices.

    Raises
    ------
    NotAnalyzableError
        It has a variable without a value, a float, or an operation that is not followed.
    """

    def of(part: Any) -> Array:
        return integer_values(part, environment, load)

    bits = bitwise(expr)
    if bits is not None:
        operation, *operands = bits
        return np.asarray(operation(*map(of, operands)))
    choice = choice_of(expr)
    if choice is not None:
        return np.where(*map(of, choice))
    match expr:
        case int():
            return np.int64(expr)  # type: ignore[return-value]
        case prim.IntImm():
            return np.int64(int(expr.value))  # type: ignore[return-value]
        case tirx.Var() if expr in environment:
            return environment[expr]
        case TensorLoad():
            return load(expr, [of(index) for index in expr.indices])
        case prim.Cast() if is_integer_expr(expr) and is_integer_expr(expr.value):
            return of(expr.value)
        case prim.Let():
            return integer_values(expr.body, {**environment, expr.var: of(expr.value)}, load)
        case prim.Not():
            return np.int64(1) - of(expr.a)
        case prim.FloorDiv() | prim.FloorMod() | prim.Div() | prim.Mod():
            return _divided(expr, of(expr.a), of(expr.b))
    known = _BINARY.get(type(expr))
    if known is None:
        raise NotAnalyzableError(f"it has a {type(expr).__name__}")
    return np.asarray(known(of(expr.a), of(expr.b))).astype(np.int64)


def _divided(expr: Any, a: Array, b: Array) -> Array:
    # The branch that is not taken may divide by zero.
    by = np.where(np.asarray(b) == 0, 1, b)
    if isinstance(expr, prim.FloorDiv | prim.FloorMod):
        return np.asarray(a // by if isinstance(expr, prim.FloorDiv) else a % by)
    quotient = np.sign(a) * np.sign(by) * (np.abs(a) // np.abs(by))
    return np.asarray(quotient if isinstance(expr, prim.Div) else a - quotient * by)
