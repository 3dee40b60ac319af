"""Sums of products in float64, and estimates of their errors, by a matrix library.

For all elements four numbers are computed by matrix products: the sum ``V``, the sum of magnitudes
``S``, the sum of squares ``Q``, and what the errors of the factors come to, ``C``. They give

- the largest error that any order may have, ``C + c S + n u S`` (``derive._partial_sums``);
- an estimate, ``C + c S + 6 u W``, with ``W**2`` the largest sum of the squares of partial sums in
  three orders, which ``derive._product_sample`` calibrates.

``V`` and ``C`` are computed in float64. ``S`` and ``Q`` serve for bounds, so float32 is accurate
enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from relax_tapml.arrays import Array, copy_wide
from relax_tapml.derive._partial_sums import INDEPENDENT
from relax_tapml.derive._pieces import Product
from relax_tapml.derive._precision import overflow, underflow, unit_roundoff
from relax_tapml.derive._product_matrices import Matrix
from relax_tapml.derive._product_tiles import Memory, Place, Rows, each_tile

_OVERFLOW_MARGIN = 2.0
_SEGMENT = 128  # The most terms between two partial sums that are computed.


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Of each element, float64, ``[batch, rows, columns]``.

    Parameters
    ----------
    values
        The sums.
    errors
        Estimates of their errors.
    most
        The largest errors of any order.
    """

    values: Array
    errors: Array
    most: Array


def sums_of_products(product: Product, left: Matrix, right: Matrix) -> Sums:
    """Return the sums of a product, rounded ones in its own dtypes, with their errors."""
    shape = (*left.values.shape[:2], right.values.shape[1])
    sums = Sums(values=np.empty(shape), errors=np.empty(shape), most=np.empty(shape))
    each = _Elements(product, left, right)

    def compute(a: _Measured, b: _Measured, place: Place, memory: Memory) -> None:
        at = place.index
        sums.values[at], sums.errors[at], sums.most[at] = each.of(a, b, memory)

    segments = math.ceil(left.values.shape[2] / _segment(left.values.shape[2]))
    each_tile(left, right, _measured, compute, temporaries=max(1, segments))
    return sums


@dataclass(frozen=True, kw_only=True)
class _Measured(Rows):
    """Rows, with magnitudes and squares, divided by ``scale``, which is a power of two for each.

    Parameters
    ----------
    sizes, squares
        float32, ``[rows, terms]``.
    scale
        float64, ``[rows]``.
    count
        Of values that are not zero, ``[rows]``.
    """

    sizes: Array
    squares: Array
    scale: Array
    count: Array

    def part(self, rows: slice) -> Self:
        return replace(
            super().part(rows),
            sizes=self.sizes[rows],
            squares=self.squares[rows],
            scale=self.scale[rows],
            count=self.count[rows],
        )


def _measured(matrix: Matrix, batch: int, rows: slice, memory: Memory | None) -> _Measured:
    memory = memory or Memory()
    given = matrix.values[batch, rows]
    wide = memory.like("wide", given, np.float64)
    copy_wide(wide, given)
    is_term = np.not_equal(wide, 0.0, out=memory.like("is_term", given, np.bool_))
    sizes, squares = (memory.like(name, given, np.float32) for name in ("sizes", "squares"))
    scale = np.ones(len(given))
    if given.dtype == np.float16:
        # Sums of squares of products fit float32 as they are.
        np.abs(wide, out=sizes, casting="same_kind")
    else:
        exact = np.abs(wide, out=memory.like("exact", given, np.float64))
        largest = exact.max(axis=1, initial=0.0)
        _, exponent = np.frexp(np.where(np.isfinite(largest), largest, 1.0))
        scale = np.ldexp(1.0, exponent)
        np.divide(exact, scale[:, None], out=exact)
        np.copyto(sizes, exact, casting="same_kind")
    np.square(sizes, out=squares)
    return _Measured(
        wide=wide,
        errors=None if matrix.errors is None else matrix.errors[batch, rows],
        sizes=sizes,
        squares=squares,
        scale=scale,
        count=np.add.reduce(is_term.view(np.uint8), axis=1, dtype=np.int32),
    )


class _Elements:
    """Computes the elements of a tile."""

    def __init__(self, product: Product, left: Matrix, right: Matrix) -> None:
        self._steps = left.step, right.step
        dtype = str(product.result.dtype)
        self._unit = unit_roundoff(dtype)
        narrow = [*product.operands[0].casts, *product.operands[1].casts, *product.dtypes]
        # A cast to a wider dtype rounds nothing, and is counted as if it did.
        self._term_unit = sum(map(unit_roundoff, narrow))
        self._tiny = left.values.shape[2] * sum(map(underflow, narrow))
        limits = [overflow(of) for of in (*narrow, dtype)]
        self._limit = min((limit for limit in limits if limit is not None), default=math.inf)

    def of(self, a: _Measured, b: _Measured, memory: Memory) -> tuple[Array, Array, Array]:
        """Return values, estimates of the errors, and the largest errors of any order."""
        carried = a.carried(b, *self._steps) + self._tiny
        scales = a.scale[:, None] * b.scale[None, :]
        size = (a.sizes @ b.sizes.T) * scales
        squares = (a.squares @ b.squares.T) * np.square(scales)
        carried = carried + size * (self._term_unit + sum(self._steps))
        # The largest number of terms that are not zero.
        n = np.minimum(a.count[:, None], b.count[None, :]).astype(np.float64)
        n = np.maximum(n, 1.0)
        value, walk = _walk(a.wide, b.wide, squares, n, memory)
        estimate = carried + INDEPENDENT * self._unit * np.sqrt(walk)
        most = carried + n * self._unit * size
        highest = size
        if self._limit < math.inf:
            near = _OVERFLOW_MARGIN * (np.abs(value) + INDEPENDENT * np.sqrt(squares))
            highest = np.minimum(size, near)
        return (
            value,
            finite_errors(value, estimate, highest, self._limit),
            finite_errors(value, most, highest, self._limit),
        )


def finite_errors(value: Array, error: Array, highest: Array, limit: float) -> Array:
    """Return infinite errors where a partial sum may overflow, none for infinite values.

    Parameters
    ----------
    value, error
        Of sums.
    highest
        How large partial sums may be.
    limit
        What the dtype holds.
    """
    if limit < math.inf:
        error = np.where(highest > limit, np.inf, error)
    return np.where(np.isinf(value), 0.0, error)


def _segment(count: int) -> int:
    return max(1, min(_SEGMENT, math.isqrt(2 * count)))


def _walk(a: Array, b: Array, squares: Array, n: Array, memory: Memory) -> tuple[Array, Array]:
    """Return sums of products, and the largest sum of the squares of their partial sums.

    That is of three orders, as in ``PartialSum``: the given one, the same reversed, and a random
    one. Of the first two, one partial sum in ``m`` is computed. Between two of them the others are
    near a straight line; how far they stray from it is estimated as for terms in a random order,
    and for any other is less than the third for ``m`` up to ``sqrt(2 n)``.

    Parameters
    ----------
    a, b
        Rows of factors, which are multiplied and summed row with row.
    squares
        The sums of the squares of the terms.
    n
        Numbers of terms that are not zero.
    memory
        For the partial sums.
    """
    count = a.shape[1]
    m = _segment(count)
    whole_ones, rest = divmod(count, m)
    shape = a.shape[0], b.shape[0]
    steps = memory.of("steps", (max(1, math.ceil(count / m)), *shape), np.float64)
    # Segment by segment; the interpreter is asked once for all of them.
    in_segments = [x[:, : whole_ones * m].reshape(len(x), whole_ones, m) for x in (a, b)]
    np.matmul(
        in_segments[0].transpose(1, 0, 2), in_segments[1].transpose(1, 2, 0), out=steps[:whole_ones]
    )
    if rest or not count:
        np.matmul(a[:, whole_ones * m :], b[:, whole_ones * m :].T, out=steps[-1])
    totals = memory.of("totals", steps.shape, np.float64)
    np.copyto(totals[0], steps[0])
    for before, step, total in zip(totals, steps[1:], totals[1:], strict=False):
        np.add(before, step, out=total)
    total = totals[-1].copy()
    sums = np.add.reduce(totals, axis=0)
    sums_squared = np.add.reduce(np.square(totals, out=totals), axis=0)
    steps_squared = np.add.reduce(np.square(steps, out=steps), axis=0)
    # A straight line from s to t has squares (s**2 + s t + t**2) / 3 on average.
    whole = np.square(total)
    below = m * (sums - 0.5 * total)
    squared = m * (sums_squared - 0.5 * whole - steps_squared / 6)
    stray = m / 6 * np.maximum(m * squares - steps_squared, 0.0)
    forward = squared + stray
    backward = forward + count * whole - 2 * total * below
    mean = np.square(total / n)
    variance = np.maximum(squares / n - mean, 0.0)
    shuffled = n * (n + 1) / 6 * (mean * (2 * n + 1) + variance)
    return total, np.maximum(shuffled, np.maximum(forward, backward))
