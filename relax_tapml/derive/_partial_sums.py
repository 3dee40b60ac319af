"""The error of a sum, estimated from its partial sums.

Every addition rounds its partial sum ``s_k`` by at most ``u |s_k|``, with ``u`` the unit roundoff
of the sum's dtype. Three bounds of the total error are used:

- It is at most ``n u sum|p|`` for terms ``p`` in any order (Higham, *Accuracy and Stability of
  Numerical Algorithms*, 4.2).
- Independent roundings add up to a small multiple of ``u sqrt(sum s_k**2)`` (Higham and Mary, *A
  new approach to probabilistic rounding error analysis*, 2019, and *Sharper probabilistic backward
  error analysis*, 2020). Another order has other partial sums, so the largest of several orders
  counts: the given one, the same reversed, and a random one, whose squares are on average
  ``mean**2 n (n+1) (2n+1) / 6 + variance n (n+1) / 6``. The caller evaluates further orders, such
  as lane after lane, one by one.
- Correlated roundings, as of equal terms, or of terms that are small against the partial sum, are
  measured: the sum is also evaluated in its own dtype. Where all terms are equal to within a
  rounding, the correlation changes with the order, and half of each rounding counts; in dtypes
  narrower than float32, where that would be large, at most eight times the measured error.

``tests/derive/test_partial_sums.py`` compares this with sums of many kinds of terms in many orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import finfo
from relax_tapml.derive._precision import overflow, unit_roundoff
from relax_tapml.derive.bounded import F64, magnitude, number, plus

INDEPENDENT = 6.0
"""The error of independent roundings, in units of ``u sqrt(sum s_k**2)``."""

MEASURED = 4.0
"""The error of correlated roundings, in units of the error of the sum in its own dtype."""

_ALIKE = 4.0  # Terms are equal if they spread less than this many roundings of a partial sum.
_ALIKE_SHARE, _ALIKE_MEASURED = 0.5, 8.0

# Partial sums in a random order differ from a straight line by half the root of the sum of squares.
_OTHERS = 3.0

NewCell = Callable[[str, Any], Any]
StoreCell = Callable[[Any, Any], None]


class PartialSum:
    """The sum in one element of a tensor, in float64, and the data to estimate its error.

    Parameters
    ----------
    dtype
        Of the sum.
    new_cell
        Emits a cell with an initial value, of its dtype, and returns the expression that loads it.
    store_cell
        Emits a store to it.
    is_exact
        Whether a sum that every order computes without a rounding shall have no error. A sum that
        rounds then has the first bound, and the two others are not computed.
    """

    def __init__(
        self, dtype: str, *, new_cell: NewCell, store_cell: StoreCell, is_exact: bool
    ) -> None:
        self._unit = unit_roundoff(dtype)
        self._digits = digits(dtype)
        self._new, self._store = new_cell, store_cell
        self._is_exact = is_exact
        # In float64 the first bound is small enough, and the evaluation itself is not more exact.
        self._is_measured = not is_exact and dtype != F64
        self._limit = overflow(dtype)
        zero = number(0.0)
        self.value = new_cell("total", zero)
        self._carried = new_cell("carried", zero)
        self._count = new_cell("count", zero)
        self._size = new_cell("size", zero)
        if self._limit is not None:
            self._highest = new_cell("highest", zero)
        if is_exact:
            self._grain = new_cell("grain", zero)
        if self._is_measured:
            self._squares = new_cell("squares", zero)
            self._partial = new_cell("partial", zero)
            self._partial_squares = new_cell("partial_squares", zero)
            # float32 instructions are much faster than rounding float64 to as many digits.
            self._has_float32 = dtype == "float32"
            self._own = new_cell("own", prim.Cast("float32", zero) if self._has_float32 else zero)

    def start(self, value: Any, error: Any) -> None:
        """Emit the start of the sum: a value and its error, None for no error."""
        value = self._new("first", value)
        size = self._new("first_size", magnitude(value))
        store = self._store
        store(self.value, value)
        store(self._carried, number(0.0) if error is None else error)
        store(self._count, _is_term(value))
        store(self._size, size)
        if self._limit is not None:
            store(self._highest, size)
        if self._is_exact:
            store(self._grain, lowest_bit(value))
        if self._is_measured:
            store(self._squares, value * value)
            store(self._partial, value)
            store(self._partial_squares, value * value)
            is_wide = self._has_float32
            store(self._own, prim.Cast("float32", value) if is_wide else self._rounded(value))

    def add(self, term: Any, error: Any) -> None:
        """Emit the addition of a term with its error, None for no error."""
        term = self._new("term", term)
        total = self._new("next", self.value + term)
        store = self._store
        store(self.value, total)
        if error is not None:
            store(self._carried, self._carried + error)
        store(self._count, self._count + _is_term(term))
        store(self._size, self._size + magnitude(term))
        if self._limit is not None:
            store(self._highest, prim.Max(self._highest, magnitude(total)))
        if self._is_exact:
            store(self._grain, prim.Min(self._grain, lowest_bit(term)))
        if self._is_measured:
            store(self._squares, self._squares + term * term)
            store(self._partial, self._partial + total)
            store(self._partial_squares, self._partial_squares + total * total)
            if self._has_float32:
                store(self._own, self._own + prim.Cast("float32", term))
            else:
                own = self._new("own_next", self._own + term)
                store(self._own, self._rounded(own))

    def _rounded(self, value: Any) -> Any:
        return rounded_to(value, self._digits)

    def error(self) -> Any:
        """Return the error of the sum: the errors of its terms, and its own roundings.

        Infinite where a partial sum may exceed the largest number of the dtype.
        """
        found = self._finite_error()
        if self._limit is None:
            return found
        # In another order a partial sum may be larger, but not by much unless terms are sorted.
        most = self._size
        if self._is_measured:
            most = prim.Min(most, self._highest + number(_OTHERS) * tirx.sqrt(self._squares))
        return prim.Select(most > number(self._limit), number(float("inf")), found)

    def _finite_error(self) -> Any:
        most = self._count * number(self._unit) * self._size
        if self._is_exact:
            is_exact = self._size <= number(2.0**self._digits) * self._grain
            return plus(self._carried, prim.Select(is_exact, number(0.0), most))
        if not self._is_measured:
            return plus(self._carried, most)
        new, unit = self._new, number(self._unit)
        n = new("n", prim.Max(self._count, number(1.0)))
        total, squares, partial = self.value, self._partial_squares, self._partial
        mean = new("mean", total / n)
        variance = new("variance", prim.Max(self._squares / n - mean * mean, number(0.0)))
        # With s_0 = 0 and s_n the total, reversed partial sums are s_n - s_k.
        backward = n * total * total - number(2.0) * total * (partial - total)
        backward = backward + squares - total * total
        pairs = n * (n + number(1.0)) / number(6.0)
        shuffled = pairs * (mean * mean * (number(2.0) * n + number(1.0)) + variance)
        walk = new("walk", tirx.sqrt(prim.Max(squares, prim.Max(backward, shuffled))))
        own = prim.Cast(F64, self._own) if self._has_float32 else self._own
        measured = new("measured", magnitude(own - total))
        spread = number(_ALIKE * self._unit) * walk
        alike = number(_ALIKE_SHARE / 2 * self._unit) * magnitude(partial)
        if not self._has_float32:
            alike = prim.Min(alike, number(_ALIKE_MEASURED) * measured)
        is_alike = variance * n <= spread * spread
        found = number(INDEPENDENT) * unit * walk + number(MEASURED) * measured
        found = found + prim.Select(is_alike, alike, number(0.0))
        return plus(self._carried, prim.Min(most, found))


def digits(dtype: str) -> int:
    """Return how many binary digits a dtype has, the implicit one included: 24 for float32."""
    return int(finfo(np.dtype(dtype)).nmant) + 1


def rounded_to(value: Any, count: int) -> Any:
    """Return a float64 cell rounded to ``count`` binary digits, ties to even.

    The exponent is not limited. The operations are those of whole numbers, which no compiler
    contracts to fused operations. ``value`` is used twice.
    """
    cut = 53 - count
    if cut <= 0:
        return value
    bits = tirx.reinterpret("int64", value)
    is_odd = (bits >> _whole(cut)) & _whole(1)
    rounded = (bits + is_odd + _whole((1 << (cut - 1)) - 1)) & _whole(-(1 << cut))
    return tirx.reinterpret(F64, rounded)


def lowest_bit(value: Any) -> Any:
    """Return the largest power of two that divides a float64 cell; infinite for zero."""
    bits = tirx.reinterpret("int64", value)
    # Without sign and exponent. TVM 0.26 takes no mask of more than 32 bits.
    mantissa = bits << _whole(12)
    cleared = tirx.reinterpret(F64, bits & (bits - _whole(1)))
    size = magnitude(value)
    lowest = prim.Select(prim.EQ(mantissa, _whole(0)), size, size - magnitude(cleared))
    return prim.Select(prim.EQ(value, number(0.0)), number(float("inf")), lowest)


def _whole(value: int) -> Any:
    return tirx.const(value, "int64")


def _is_term(value: Any) -> Any:
    """Return 1 for a term whose addition rounds, 0 for a zero, whose addition does not."""
    return prim.Select(prim.EQ(value, number(0.0)), number(0.0), number(1.0))
