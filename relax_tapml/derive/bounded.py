"""A TIR expression in float64 and, beside it, how far a kernel's result may be from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import prim

F64 = "float64"


class NotDerivableError(Exception):
    """The errors of a PrimFunc cannot be followed; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """What an expression of the kernel evaluates to.

    Parameters
    ----------
    value
        The expression in exact arithmetic: float64 for floats; integers and bool as they are.
    error
        None if every legal kernel computes exactly ``value``. Otherwise a float64 expression: how
        far a legal kernel may be from it; for bool, whether it may be the opposite.
    """

    value: Any
    error: Any = None


def dtype_of(expr: Any) -> str:
    """Return the dtype of a scalar expression."""
    return str(expr.ty.dtype)


def number(value: float) -> Any:
    """Return a float64 constant."""
    return tirx.const(value, F64)


def magnitude(value: Any) -> Any:
    """Return ``|value|``."""
    return tirx.abs(value)


def plus(*terms: Any) -> Any:
    """Return the sum of those terms that are not None; None without one."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else prim.Add(total, term)
    return total


def times(*factors: Any) -> Any:
    """Return the product; None, which stands for zero, if one of the factors is None."""
    product = None
    for factor in factors:
        if factor is None:
            return None
        product = factor if product is None else prim.Mul(product, factor)
    return product


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two errors, where None stands for zero."""
    if a is None or b is None:
        return b if a is None else a
    return prim.Max(a, b)


def either(a: Any, b: Any) -> Any:
    """Return whether one of two conditions holds, where None stands for never."""
    if a is None or b is None:
        return b if a is None else a
    return prim.Or(a, b)
