"""Sums of products of which no order rounds, as of small whole numbers times a power of two."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from relax_tapml.arrays import Array, copy_wide
from relax_tapml.derive._partial_sums import digits
from relax_tapml.derive._pieces import Product
from relax_tapml.derive._precision import overflow, unit_roundoff
from relax_tapml.derive._product_matrices import Matrix
from relax_tapml.derive._product_sums import finite_errors
from relax_tapml.derive._product_tiles import Memory, Place, Rows, each_tile

_LARGE = 1e30  # Larger sums might overflow in float32.
_FLOAT32_DIGITS = 24


def exact_sums(product: Product, left: Matrix, right: Matrix) -> tuple[Array, Array]:
    """Return the sums of a product, and their errors, which are 0 where no order rounds.

    Both are float64, ``[batch, rows, columns]``.
    """
    shape = (*left.values.shape[:2], right.values.shape[1])
    values, errors = np.empty(shape), np.empty(shape)
    each = _Elements(product, left, right)

    def compute(a: _Grained, b: _Grained, place: Place, _memory: Memory) -> None:
        values[place.index], errors[place.index] = each.of(a, b)

    each_tile(left, right, _grained, compute)
    return values, errors


@dataclass(frozen=True, kw_only=True)
class _Grained(Rows):
    """Rows, and how large and how fine their values are.

    Parameters
    ----------
    narrow
        The values in float32.
    largest
        The largest magnitude; NaN if there is a NaN.
    most
        The largest number of values of one row that are not zero.
    grain
        A power of two that divides every value.
    """

    narrow: Array
    largest: float
    most: int
    grain: float

    def part(self, rows: slice) -> Self:
        return replace(super().part(rows), narrow=self.narrow[rows])


def _grained(matrix: Matrix, batch: int, rows: slice, memory: Memory | None) -> _Grained:
    memory = memory or Memory()
    given = matrix.values[batch, rows]
    wide = memory.like("wide", given, np.float64)
    copy_wide(wide, given)
    narrow = memory.like("narrow", given, np.float32)
    with np.errstate(over="ignore"):
        np.copyto(narrow, wide, casting="same_kind")
    is_term = np.not_equal(wide, 0.0, out=memory.like("is_term", given, np.bool_))
    count = np.add.reduce(is_term.view(np.uint8), axis=1, dtype=np.int32)
    return _Grained(
        wide=wide,
        errors=None if matrix.errors is None else matrix.errors[batch, rows],
        narrow=narrow,
        largest=max(float(wide.max(initial=0.0)), -float(wide.min(initial=0.0))),
        most=int(count.max(initial=0)),
        grain=_grain(wide, memory),
    )


class _Elements:
    """Computes the elements of a tile."""

    def __init__(self, product: Product, left: Matrix, right: Matrix) -> None:
        self._steps = left.step, right.step
        dtype = str(product.result.dtype)
        narrow = [*product.operands[0].casts, *product.operands[1].casts, *product.dtypes]
        count = left.values.shape[2]
        self._roundings = count * unit_roundoff(dtype) + sum(map(unit_roundoff, narrow))
        self._digits = min(map(digits, [*narrow, dtype]))
        limits = [overflow(of) for of in (*narrow, dtype)]
        self._limit = min((limit for limit in limits if limit is not None), default=math.inf)

    def of(self, a: _Grained, b: _Grained) -> tuple[Array, Array]:
        """Return values and errors."""
        has_errors = a.errors is not None or b.errors is not None
        grain = a.grain * b.grain
        # A sum of magnitudes is at most this; then no order rounds, nor does float32.
        largest = a.largest * b.largest * min(a.most, b.most)
        room = min(2.0**self._digits * grain, 2.0**_FLOAT32_DIGITS * grain, self._limit)
        if largest <= room and not has_errors and largest < _LARGE:
            value = a.narrow @ b.narrow.T
            return value, np.zeros(value.shape)
        value = a.wide @ b.wide.T
        size = np.abs(a.wide) @ np.abs(b.wide).T
        rounded = np.where(size <= 2.0**self._digits * grain, 0.0, self._roundings * size)
        error = rounded + a.carried(b, *self._steps)
        return value, finite_errors(value, error, size, self._limit)


def _grain(wide: Array, memory: Memory) -> float:
    """Return the largest power of two that divides every value; 1 if all are zero.

    Mostly that of the first row, so all values are looked at once.
    """
    least = _lowest_bit(wide[:1])
    in_grains = np.divide(wide, least, out=memory.like("in_grains", wide, np.float64))
    whole = np.rint(in_grains, out=memory.like("whole", wide, np.float64))
    if not math.isfinite(least) or not np.array_equal(in_grains, whole):
        least = min(least, _lowest_bit(wide))
    return least if math.isfinite(least) else 1.0


def _lowest_bit(wide: Array) -> float:
    mantissa, exponent = np.frexp(wide[np.isfinite(wide) & (wide != 0)])
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.ldexp((whole & -whole).astype(np.float64), exponent - 53)
    return float(lowest.min(initial=math.inf))
