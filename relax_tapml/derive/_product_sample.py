"""A sample of the elements of a product, whose partial sums are followed by the shadow kernel.

Within the sample, the errors of the shadow kernel are used. Elsewhere an element has ``SAFETY``
times the largest ratio, over the sample, of the shadow kernel's error to the estimate of
``derive._product_sums``, times its own estimate; and at most what any order may be off. The ratio
does not depend on the scale of rows and columns, since all its parts grow with it. What it depends
on is how terms are ordered.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import Array, as_float64
from relax_tapml.cores import in_threads, slices
from relax_tapml.derive._partial_sums import digits
from relax_tapml.derive._pieces import Product
from relax_tapml.derive._product_matrices import Matrix
from relax_tapml.derive._product_sums import Sums
from relax_tapml.derive._sampled import SAFETY, Sampled, Sizes, sampled
from relax_tapml.derive._shadow_runs import ORDERS, USUAL, ShadowRuns

SAMPLED_TERMS = 1 << 23
"""How many terms of sums a sample has, each of which is added in each of the orders."""

_PART = 1 << 16  # Values looked at together: what that takes stays in a cache.


def calibrated(product: Product, left: Matrix, right: Matrix, sums: Sums) -> tuple[Array, Sampled]:
    """Return errors instead of estimates: of the shadow kernel in a sample, bounds elsewhere.

    The arrays of ``sums`` are used for them.
    """
    values, errors, most = sums.values, sums.errors, sums.most
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
    found = _followed(runs, left, right, sample)
    estimates = errors[grid]
    with np.errstate(all="ignore"):
        ratios = found / estimates
    ratios = ratios[np.isfinite(ratios) & (estimates > 0)]
    ratio = float(ratios.max(initial=0.0))
    factor = SAFETY * (ratio if ratio > 0 else 1.0)
    # Where sums may overflow, whether they do depends on their order.
    may_overflow = not np.isfinite(found).all()
    flat, bounds = errors.reshape(-1), most.reshape(-1)

    def scale(part: slice) -> None:
        own, largest = flat[part], bounds[part]
        np.fmin(np.multiply(own, factor, out=own), largest, out=own)
        if may_overflow:
            own[~np.isfinite(largest)] = np.inf

    in_threads(scale, slices(flat.size, _PART))
    errors[grid] = found
    return errors, sampled(sample.sizes, sample.shape, factor)


def _followed(runs: ShadowRuns, left: Matrix, right: Matrix, sample: _Sample) -> Array:
    """Return the errors of the elements of a sample, ``[batch, rows, columns]``."""
    count, ways = len(sample.columns), len(runs.results)
    # Some columns may be there twice, so that each result has as many.
    columns = np.resize(sample.columns, math.ceil(count / ways) * ways)
    parts = [(left, sample.rows), *((right, columns[number::ways]) for number in range(ways))]
    arguments, slack = {}, {}
    for number, (matrix, rows) in enumerate(parts):
        at = np.ix_(sample.batch, rows)
        arguments[number] = np.ascontiguousarray(matrix.values[at])
        if matrix.errors is not None:
            slack[number] = matrix.errors[at]
        if not matrix.is_input:
            arguments[number] = as_float64(arguments[number])
    like = np.empty((len(sample.batch), len(sample.rows), len(columns) // ways))
    made = runs.run(USUAL, arguments, {}, [like] * ways, orders=ORDERS, slack=slack)
    errors = np.stack([made.errors[number] for number in runs.results], axis=-1)
    return errors.reshape(*errors.shape[:2], -1)[..., :count]


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A grid of elements: some batches, rows and columns, each ascending."""

    batch: Array
    rows: Array
    columns: Array
    shape: Sizes

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
    def sizes(self) -> Sizes:
        return len(self.batch), len(self.rows), len(self.columns)

    @property
    def grid(self) -> tuple[Array, ...]:
        return np.ix_(self.batch, self.rows, self.columns)


def _sizes(shape: Sizes, budget: int) -> Sizes:
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
    parts = list(slices(flat.size, _PART))
    found: list[dict[tuple[int, int], tuple[float, int]]] = [{} for _ in parts]

    def look(number: int) -> None:
        found[number] = _extremes_of_part(flat, apart, parts[number])

    in_threads(look, range(len(parts)))
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for one in found:
        for kind, (measure, place) in one.items():
            if kind not in best or measure > best[kind][0]:
                best[kind] = measure, place
    return [place for _, place in best.values()]


def _extremes_of_part(
    values: Array, errors: Array, part: slice
) -> dict[tuple[int, int], tuple[float, int]]:
    """Return what is extreme and where, by which measure it is so, and whether it is largest."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    with np.errstate(all="ignore"):
        size, own = np.abs(values[part]), errors[part]
        for number, measure in enumerate((size, size / own, own)):
            for sign in (1, -1):
                signed = np.where(np.isfinite(measure), sign * measure, -math.inf)
                place = int(signed.argmax())
                if signed[place] > -math.inf:
                    best[number, sign] = float(signed[place]), part.start + place
    strange = np.flatnonzero(~np.isfinite(size))[:1]
    if strange.size:
        best[3, 1] = 0.0, part.start + int(strange[0])
    return best


_Factor = tuple[str, tuple[str, ...], bool]


@cache
def _sampled_runs(left: _Factor, right: _Factor, casts: tuple[str, ...], dtype: str) -> ShadowRuns:
    """Return the runs of products of ``[batch, i, k]`` and ``[batch, j, k]``, of any extents.

    Sums of a dtype narrower than float32 are followed two by two: the second factors are two
    tensors, each with half of the rows, and so are the results. Rounding such a sum is a long chain
    of operations, each of which waits for the one before; those of the other sum fill the time.

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
    ways = range(2 if digits(dtype) < digits("float32") else 1)
    own = tirx.decl_buffer((batches, rows, terms), left[0], "A")
    others = [tirx.decl_buffer((batches, columns, terms), right[0], f"B{n}") for n in ways]
    results = [tirx.decl_buffer((batches, rows, columns), dtype, f"C{n}") for n in ways]
    factor = _cast(tirx.BufferLoad(own, [b, i, k]), left[1])
    stores = []
    for other, result in zip(others, results, strict=True):
        product = factor * _cast(tirx.BufferLoad(other, [b, j, k]), right[1])
        total = tirx.BufferLoad(result, [b, i, j]) + _cast(product, casts)
        stores.append(tirx.BufferStore(result, total, [b, i, j]))
    body: Any = tirx.SeqStmt(stores) if len(stores) > 1 else stores[0]
    for variable, extent in ((k, terms), (j, columns), (b, batches), (i, rows)):
        body = tirx.For(variable, zero, extent, tirx.ForKind.SERIAL, body)
    function = tirx.PrimFunc([own, *others, *results], body).with_attrs(
        {"global_symbol": "product", "tirx.noalias": True}
    )
    wide = [0] if left[2] else []
    wide += [1 + number for number in ways] if right[2] else []
    return ShadowRuns(function, [1 + len(ways) + number for number in ways], wide=wide)


def _cast(expr: Any, dtypes: tuple[str, ...]) -> Any:
    for dtype in dtypes:
        expr = prim.Cast(dtype, expr)
    return expr
