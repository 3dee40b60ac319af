"""Sums of products of two tensors, by a matrix library, with bounds that a sample calibrates.

A shadow kernel follows every partial sum of every element, at some nanoseconds a term. For large
products that is done for a sample only, a grid of rows and columns. For all elements, four numbers
are computed by matrix products in float64: the sum ``V``, the sum of magnitudes ``S``, the sum of
squares ``Q``, and what the errors of the factors come to, ``C``. They give

- the largest error that any order may have, ``C + c S + n u S`` (``derive._partial_sums``), which
  needs no sample;
- the error of independent roundings in a random order, ``6 u W`` with ``W**2`` the expected sum of
  the squares of partial sums.

Within the sample, the errors of the shadow kernel are used. Elsewhere an element has ``SAFETY``
times the largest ratio, over the sample, of the shadow kernel's error to ``C + c S + 6 u W``, times
its own ``C + c S + 6 u W``; and at most the first. The ratio does not depend on the scale of rows
and columns, since all its parts grow with it. What it depends on is how terms are ordered.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import Array, as_float64, finfo
from relax_tapml.cores import usable_cores
from relax_tapml.derive._partial_sums import INDEPENDENT, digits
from relax_tapml.derive._pieces import Operand, Product
from relax_tapml.derive._precision import INPUT_PERTURBATION, overflow, underflow, unit_roundoff
from relax_tapml.derive._shadow_runs import ORDERS, USUAL, ShadowRuns
from relax_tapml.kernel_flow.integer_values import integer_values

SAMPLED_TERMS = 1 << 23
"""How many terms of sums a sample has, each of which is added in each of the orders."""

SAFETY = 1.5
"""What is not sampled may be off by so many times what the sample shows."""

CONFIDENCE = 0.95

_PART = 1 << 20  # Values looked at together where many are.
_MOST_ROWS = 256
_BLOCK = 1 << 19  # Values of one float64 block of a factor, of which a few are held.
_OVERFLOW_MARGIN = 2.0
_MOST_THREADS = 16  # Each holds a few blocks.
_LARGE = 1e30  # Larger sums might overflow in float32.
_SEGMENT = 128  # The most terms between two partial sums that are computed.


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A tensor that a product reads.

    Parameters
    ----------
    values
        As the kernel gets them, or float64 where the kernel computes them.
    errors
        How far each value may be off, float64; None for the last place of an input, or for nothing
        where the inputs are the same bits everywhere.
    is_input
        Whether ``values`` are an argument of the kernel.
    """

    values: Array
    errors: Array | None = None
    is_input: bool = True


@dataclass(frozen=True, kw_only=True)
class ProductResult:
    """The values and errors of a product, float64, and what was sampled, a phrase for people."""

    values: Array
    errors: Array
    note: str


def evaluate_product(
    product: Product,
    factors: tuple[Factor, Factor],
    extents: Mapping[Any, int],
    shape: Sequence[int],
    *,
    is_exact: bool,
) -> ProductResult:
    """Evaluate a product in float64, with a bound of the error of each element.

    Parameters
    ----------
    product
        What is computed.
    factors
        The tensors of its operands.
    extents
        Of its loop variables.
    shape
        Of the result.
    is_exact
        Whether a sum that every order computes without a rounding has no error, and inputs are the
        same bits everywhere. Nothing is sampled then.
    """
    layout = _Layout.of(product, extents)
    left = _Matrix.of(product.operands[0], factors[0], layout, layout.rows)
    right = _Matrix.of(product.operands[1], factors[1], layout, layout.columns)
    sums = _Sums(product, left, right, is_exact=is_exact)
    values, errors, most = sums.run()
    note = ""
    if not is_exact:
        note = _calibrate(product, left, right, values, errors, most)
    return ProductResult(
        values=layout.placed(values, product, shape),
        errors=layout.placed(errors, product, shape),
        note=note,
    )


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which loop variables are batches, rows, columns, and summed over."""

    batch: tuple[Any, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    reduced: tuple[Any, ...]
    extents: Mapping[Any, int]

    @classmethod
    def of(cls, product: Product, extents: Mapping[Any, int]) -> _Layout:
        left, right = (operand.variables for operand in product.operands)
        kept = [v for v in product.extents if v not in set(product.reduced)]
        return cls(
            batch=tuple(v for v in kept if v in left and v in right),
            rows=tuple(v for v in kept if v in left and v not in right),
            columns=tuple(v for v in kept if v in right and v not in left),
            reduced=product.reduced,
            extents=extents,
        )

    def sizes(self, variables: Sequence[Any]) -> list[int]:
        return [self.extents[variable] for variable in variables]

    def placed(self, array: Array, product: Product, shape: Sequence[int]) -> Array:
        """Return batches of rows and columns as the product stores them."""
        order = [*self.batch, *self.rows, *self.columns]
        split = array.reshape(self.sizes(order))
        stored = [index for index in product.indices if isinstance(index, tirx.Var)]
        return np.ascontiguousarray(split.transpose([order.index(v) for v in stored])).reshape(
            shape
        )


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    """A factor as batches of rows: ``[batch, rows, terms]``, perhaps a view.

    Parameters
    ----------
    values, errors, is_input
        As of ``Factor``.
    """

    values: Array
    errors: Array | None
    is_input: bool

    @classmethod
    def of(cls, operand: Operand, factor: Factor, layout: _Layout, kept: Sequence[Any]) -> _Matrix:
        order = [*layout.batch, *kept, *layout.reduced]
        shape = [math.prod(layout.sizes(part)) for part in (layout.batch, kept, layout.reduced)]

        def arranged(array: Array) -> Array:
            return _gathered(array, operand, order, layout.extents).reshape(shape)

        return cls(
            values=arranged(factor.values),
            errors=None if factor.errors is None else arranged(factor.errors),
            is_input=factor.is_input,
        )

    @property
    def step(self) -> float:
        """The relative error of values whose errors are not given."""
        if self.errors is not None or not self.is_input:
            return 0.0
        return min(INPUT_PERTURBATION, float(finfo(self.values.dtype).eps))


def _gathered(
    array: Array, operand: Operand, order: Sequence[Any], extents: Mapping[Any, int]
) -> Array:
    """Return the elements that an operand takes, one axis for each variable in order."""
    indices = operand.indices
    variables = [index for index in indices if isinstance(index, tirx.Var)]
    is_plain = len(set(variables)) == len(variables) and all(
        isinstance(index, tirx.Var | prim.IntImm) for index in indices
    )
    if is_plain:
        part = array[
            tuple(
                slice(0, extents[i]) if isinstance(i, tirx.Var) else int(i.value) for i in indices
            )
        ]
        return part.transpose([variables.index(variable) for variable in order])
    grids = {
        variable: np.arange(extents[variable], dtype=np.int64).reshape(
            [-1 if n == place else 1 for n in range(len(order))]
        )
        for place, variable in enumerate(order)
    }
    places = [integer_values(index, grids, _no_load) for index in indices]
    return np.asarray(array[tuple(np.broadcast_arrays(*places))])


def _no_load(_load: Any, _indices: list[Array]) -> Array:
    raise AssertionError("indices of operands load nothing")


class _Sums:
    """``V``, and the errors from ``S``, ``Q`` and ``C``, block after block."""

    def __init__(self, product: Product, left: _Matrix, right: _Matrix, *, is_exact: bool) -> None:
        self._left, self._right = left, right
        self._is_exact = is_exact
        self._dtype = str(product.result.dtype)
        self._unit = unit_roundoff(self._dtype)
        self._count = left.values.shape[2]
        narrow = [*product.operands[0].casts, *product.operands[1].casts, *product.dtypes]
        # A cast to a wider dtype rounds nothing, and is counted as if it did.
        self._term_unit = sum(map(unit_roundoff, narrow))
        self._tiny = self._count * sum(map(underflow, narrow))
        self._digits = min(map(digits, [*narrow, self._dtype]))
        limits = [overflow(dtype) for dtype in (*narrow, self._dtype)]
        self._limit = min((limit for limit in limits if limit is not None), default=math.inf)
        self._grain = _grain(left.values) * _grain(right.values) if is_exact else 0.0

    def run(self) -> tuple[Array, Array, Array]:
        """Return values, estimates of the errors, and the largest errors of any order."""
        left, right = self._left.values, self._right.values
        shape = (left.shape[0], left.shape[1], right.shape[1])
        values, errors = np.empty(shape), np.empty(shape)
        most = errors if self._is_exact else np.empty(shape)
        step = max(1, min(_MOST_ROWS, _BLOCK // max(1, self._count)))
        wide = max(1, min(_PART // 8 // min(step, shape[1]), _BLOCK // max(1, self._count)))

        def compute(a: _Block, batch: int, rows: slice, columns: slice) -> None:
            b = _Block(self._right, batch, columns)
            at = batch, rows, columns
            with np.errstate(all="ignore"):
                if self._is_exact:
                    values[at], errors[at] = self._exact(a, b)
                else:
                    values[at], errors[at], most[at] = self._rounded(a, b)

        # The library's own threads would only share its products, and wait for each other busily.
        with _libraries().limit(limits=1, user_api="blas"), _threads() as pool:
            for batch in range(shape[0]):
                for rows in _slices(shape[1], step):
                    a = _Block(self._left, batch, rows)
                    work = functools.partial(compute, a, batch, rows)
                    for _ in pool.map(work, _slices(shape[2], wide)):
                        pass
        return values, errors, most

    def _exact(self, a: _Block, b: _Block) -> tuple[Array, Array]:
        has_errors = a.errors is not None or b.errors is not None
        # A sum of magnitudes is at most this; then no order rounds, nor does float32.
        largest = a.largest * b.largest * min(a.most, b.most)
        room = min(2.0**self._digits * self._grain, self._limit)
        if largest <= min(room, 2.0**24 * self._grain) and not has_errors and largest < _LARGE:
            value = a.wide.astype(np.float32) @ b.wide.astype(np.float32).T
            return value.astype(np.float64), np.zeros(value.shape)
        value = a.wide @ b.wide.T
        carried = a.carried(b, self._left.step, self._right.step)
        size = np.abs(a.wide) @ np.abs(b.wide).T
        most = (self._count * self._unit + self._term_unit) * size
        error = np.where(size <= 2.0**self._digits * self._grain, 0.0, most) + carried
        return value, self._finite(value, error, size)

    def _rounded(self, a: _Block, b: _Block) -> tuple[Array, Array, Array]:
        carried = a.carried(b, self._left.step, self._right.step) + self._tiny
        size, squares = a.sizes(b)
        carried += size * (self._term_unit + self._left.step + self._right.step)
        # The largest number of terms that are not zero.
        n = np.minimum(a.count[:, None], b.count[None, :]).astype(np.float64)
        n = np.maximum(n, 1.0)
        value, walk = _walk(a.wide, b.wide, squares, n)
        estimate = carried + INDEPENDENT * self._unit * np.sqrt(walk)
        most = carried + n * self._unit * size
        highest = size
        if self._limit < math.inf:
            near = _OVERFLOW_MARGIN * (np.abs(value) + INDEPENDENT * np.sqrt(squares))
            highest = np.minimum(size, near)
        return value, self._finite(value, estimate, highest), self._finite(value, most, highest)

    def _finite(self, value: Array, error: Array, highest: Array) -> Array:
        """Return infinite errors where a partial sum may overflow, none for infinite values."""
        if self._limit < math.inf:
            error = np.where(highest > self._limit, np.inf, error)
        return np.where(np.isinf(value), 0.0, error)


@cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of NumPy's matrix library."""
    return ThreadpoolController()


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(usable_cores(), _MOST_THREADS))


def _walk(a: Array, b: Array, squares: Array, n: Array) -> tuple[Array, Array]:
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
    """
    count = a.shape[1]
    m = max(1, min(_SEGMENT, math.isqrt(2 * count)))
    shape = a.shape[0], b.shape[0]
    step, square = np.empty(shape), np.empty(shape)
    total, sums, sums_squared, steps_squared = (np.zeros(shape) for _ in range(4))
    for terms in _slices(count, m):
        np.matmul(a[:, terms], b[:, terms].T, out=step)
        total += step
        sums += total
        sums_squared += np.square(total, out=square)
        steps_squared += np.square(step, out=square)
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


class _Block:
    """Some rows of a factor, in float64."""

    def __init__(self, matrix: _Matrix, batch: int, rows: slice) -> None:
        self._given = matrix.values[batch, rows]
        self.wide = as_float64(self._given)
        errors = matrix.errors
        self.errors = None if errors is None else errors[batch, rows]
        self.count = np.count_nonzero(self._given, axis=1)

    @cached_property
    def largest(self) -> float:
        """The largest magnitude; NaN if there is a NaN."""
        return float(np.abs(self.wide).max(initial=0.0))

    @property
    def most(self) -> int:
        """The largest number of values of one row that are not zero."""
        return int(self.count.max(initial=0))

    @cached_property
    def _scaled(self) -> tuple[Array, Array]:
        """Magnitudes in float32, each row divided by a power of two; and these powers.

        Sums of squares of products of float16 fit float32 as they are.
        """
        if self._given.dtype == np.float16:
            return np.abs(self._given).astype(np.float32), np.ones(len(self._given))
        rows = np.abs(self.wide)
        largest = rows.max(axis=1, initial=0.0, keepdims=True)
        _, exponent = np.frexp(np.where(np.isfinite(largest), largest, 1.0))
        scale = np.ldexp(1.0, exponent)
        rows /= scale
        return rows.astype(np.float32), scale[:, 0]

    def sizes(self, other: _Block) -> tuple[Array, Array]:
        """Return the sums of the magnitudes and of the squares of the terms.

        They serve for bounds, so float32 is accurate enough.
        """
        (own, scale), (others, other_scale) = self._scaled, other._scaled
        scales = scale[:, None] * other_scale[None, :]
        size = (own @ others.T) * scales
        squares = (np.square(own) @ np.square(others).T) * np.square(scales)
        return size, squares

    def carried(self, other: _Block, step: float, other_step: float) -> Array:
        """Return what given errors of the factors come to in each sum."""
        total: Any = 0.0
        if self.errors is not None:
            total = total + self.errors @ (np.abs(other.wide) * (1 + other_step)).T
            if other.errors is not None:
                total = total + self.errors @ other.errors.T
        if other.errors is not None:
            total = total + (np.abs(self.wide) * (1 + step)) @ other.errors.T
        return np.asarray(total)


def _slices(extent: int, step: int) -> Iterator[slice]:
    for start in range(0, extent, step):
        yield slice(start, min(extent, start + step))


def _grain(array: Array) -> float:
    """Return the largest power of two that divides every value; 1 if all are zero."""
    least = math.inf
    flat = array.reshape(array.shape[0] * array.shape[1], -1)
    step = max(1, _BLOCK // max(1, flat.shape[1]))
    for rows in _slices(flat.shape[0], step):
        wide = as_float64(flat[rows])
        if math.isfinite(least):
            in_grains = wide / least
            if np.array_equal(in_grains, np.rint(in_grains)):
                continue
        mantissa, exponent = np.frexp(wide[np.isfinite(wide) & (wide != 0)])
        whole = np.ldexp(mantissa, 53).astype(np.int64)
        lowest = np.ldexp((whole & -whole).astype(np.float64), exponent - 53)
        least = min(least, float(lowest.min(initial=math.inf)))
    return least if math.isfinite(least) else 1.0


def _calibrate(
    product: Product,
    left: _Matrix,
    right: _Matrix,
    values: Array,
    errors: Array,
    most: Array,
) -> str:
    """Replace estimates by errors: those of the shadow kernel in a sample, bounds elsewhere."""
    sample = _Sample.of(values, errors, left.values.shape[2])
    grid = sample.grid
    runs = _sampled_runs(
        *(
            (str(operand.buffer.dtype), operand.casts, not matrix.is_input)
            for operand, matrix in zip(product.operands, (left, right), strict=True)
        ),
        product.casts,
        str(product.result.dtype),
    )
    arguments, slack = {}, {}
    for number, (matrix, rows) in enumerate(((left, sample.rows), (right, sample.columns))):
        at = np.ix_(sample.batch, rows)
        arguments[number] = np.ascontiguousarray(matrix.values[at])
        if matrix.errors is not None:
            slack[number] = matrix.errors[at]
        if not matrix.is_input:
            arguments[number] = as_float64(arguments[number])
    like = np.empty((len(sample.batch), len(sample.rows), len(sample.columns)), np.float64)
    found = runs.run(USUAL, arguments, {}, [like], orders=ORDERS, slack=slack).errors[2]
    estimates = errors[grid]
    with np.errstate(all="ignore"):
        ratios = found / estimates
    ratios = ratios[np.isfinite(ratios) & (estimates > 0)]
    ratio = float(ratios.max(initial=0.0))
    factor = SAFETY * (ratio if ratio > 0 else 1.0)
    errors *= factor
    np.fmin(errors, most, out=errors)
    if not np.isfinite(found).all():
        # Where sums may overflow, whether they do depends on their order.
        errors[~np.isfinite(most)] = np.inf
    errors[grid] = found
    return sample.text(factor)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A grid of elements: some batches, rows and columns, each ascending."""

    batch: Array
    rows: Array
    columns: Array
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, values: Array, errors: Array, terms: int) -> _Sample:
        """Draw a sample that holds the ends of the axes, and where values are unusual.

        Half of it is drawn at random, by a seed from the shape.
        """
        shape = values.shape
        budget = max(16, SAMPLED_TERMS // max(1, terms))
        sizes = _sizes(shape, budget)
        rng = np.random.default_rng(zlib.crc32(repr((shape, terms)).encode()))
        extremes = [np.unravel_index(place, shape) for place in _extremes(values, errors)]
        drawn = []
        for axis, (extent, size) in enumerate(zip(shape, sizes, strict=True)):
            if size >= extent:
                drawn.append(np.arange(extent))
                continue
            first = [0, extent - 1, *(int(place[axis]) for place in extremes)]
            picked = list(dict.fromkeys(first))[: max(1, size // 2)]
            others = rng.permutation(extent)
            more = others[~np.isin(others, picked)][: size - len(picked)]
            drawn.append(np.sort(np.concatenate([np.asarray(picked, np.int64), more])))
        return cls(batch=drawn[0], rows=drawn[1], columns=drawn[2], shape=shape)

    @property
    def grid(self) -> tuple[Array, ...]:
        return np.ix_(self.batch, self.rows, self.columns)

    def text(self, factor: float) -> str:
        """Return what was sampled, and what that shows."""
        sizes = [len(self.batch), len(self.rows), len(self.columns)]
        count, total = math.prod(sizes), math.prod(self.shape)
        shares = [
            f"{_missed(size):.1%} of the {name}"
            for name, size, extent in zip(
                ("batches", "rows", "columns"), sizes, self.shape, strict=True
            )
            if size < extent
        ]
        if not shares:
            return ""
        kinds = " or ".join(shares)
        batches = f" x {sizes[0]} batches" if self.shape[0] > 1 else ""
        return (
            f"partial sums were followed for {count} of {total} elements ({sizes[1]} rows x "
            f"{sizes[2]} columns{batches}); others may be off by {factor:.2g} times the estimate "
            f"from sums of squares, {SAFETY:g} times the largest ratio among these, which have met "
            f"whatever more than {kinds} do with {CONFIDENCE:.0%} confidence"
        )


def _missed(size: int) -> float:
    """Return the share of rows that a sample of independent ones misses by bad luck only.

    A property of a share ``p`` of the rows is in one of ``m`` rows drawn with probability
    ``1 - (1 - p)**m``. Half of a sample is drawn.
    """
    return float(1.0 - (1.0 - CONFIDENCE) ** (1.0 / max(1, size - size // 2)))


def _sizes(shape: tuple[int, int, int], budget: int) -> tuple[int, int, int]:
    """Return how many batches, rows and columns a sample has, as alike as they can be."""
    sizes = [1, 1, 1]
    while True:
        growing = [
            axis
            for axis in range(3)
            if sizes[axis] < shape[axis]
            and math.prod(sizes) // sizes[axis] * min(shape[axis], 2 * sizes[axis]) <= budget
        ]
        if not growing:
            return sizes[0], sizes[1], sizes[2]
        # Batches differ least.
        axis = min(growing, key=lambda n: sizes[n] * (4 if n == 0 else 1))
        sizes[axis] = min(shape[axis], 2 * sizes[axis])


def _extremes(values: Array, errors: Array) -> list[int]:
    """Return the flat places of the largest and least magnitudes, and of unusual errors."""
    flat, apart = values.reshape(-1), errors.reshape(-1)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for part in _slices(flat.size, _PART):
        with np.errstate(all="ignore"):
            size = np.abs(flat[part])
            for number, measure in enumerate((size, size / apart[part], apart[part])):
                for sign in (1, -1):
                    signed = np.where(np.isfinite(measure), sign * measure, -math.inf)
                    place = int(signed.argmax())
                    known = best.get((number, sign), (-math.inf, 0))
                    if signed[place] > known[0]:
                        best[number, sign] = float(signed[place]), part.start + place
            strange = np.flatnonzero(~np.isfinite(size))[:1]
            if strange.size:
                best.setdefault((3, 1), (0.0, part.start + int(strange[0])))
    return [place for _, place in best.values()]


_Factor = tuple[str, tuple[str, ...], bool]


@cache
def _sampled_runs(left: _Factor, right: _Factor, casts: tuple[str, ...], dtype: str) -> ShadowRuns:
    """Return the runs of a product of ``[batch, i, k]`` and ``[batch, j, k]``, of any extents.

    Parameters
    ----------
    left, right
        Of each factor: its dtype, what it is cast to in turn, and whether it is passed as values
        of a shadow kernel.
    casts
        What the product of the two is cast to in turn.
    dtype
        Of the sum.
    """
    zero = tirx.const(0, "int64")
    b, i, j, k = (tirx.Var(name, "int64") for name in "bijk")
    batches, rows, columns, terms = (
        tirx.Var(name, "int64") for name in ("batches", "rows", "columns", "terms")
    )
    buffers = [
        tirx.decl_buffer((batches, extent, terms), factor[0], name)
        for name, extent, factor in (("A", rows, left), ("B", columns, right))
    ]
    result = tirx.decl_buffer((batches, rows, columns), dtype, "C")
    factors = [
        _cast(tirx.BufferLoad(buffer, [b, at, k]), factor[1])
        for buffer, at, factor in ((buffers[0], i, left), (buffers[1], j, right))
    ]
    total = tirx.BufferLoad(result, [b, i, j]) + _cast(factors[0] * factors[1], casts)
    body: Any = tirx.BufferStore(result, total, [b, i, j])
    for variable, extent in ((k, terms), (j, columns), (b, batches), (i, rows)):
        body = tirx.For(variable, zero, extent, tirx.ForKind.SERIAL, body)
    function = tirx.PrimFunc([*buffers, result], body).with_attrs(
        {"global_symbol": "product", "tirx.noalias": True}
    )
    wide = [number for number, factor in enumerate((left, right)) if factor[2]]
    return ShadowRuns(function, [2], wide=wide)


def _cast(expr: Any, dtypes: tuple[str, ...]) -> Any:
    for dtype in dtypes:
        expr = prim.Cast(dtype, expr)
    return expr
