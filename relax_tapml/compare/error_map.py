"""Where in a tensor values are wrong, and how far beyond their tolerance: a summary of few numbers.

It is made of mismatches only, since a passing comparison has nothing to show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare._mismatches import wrong_values
from relax_tapml.compare.metrics.block import Block, blocks, parts_of
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.cores import in_threads

MOST_BINS = 32
"""Of an axis."""

RATIO_EDGES = tuple(10.0 ** (half / 2) for half in range(-10, 11))
"""Half decades of error over tolerance. The bins of a histogram are (0, first], (first, second] and
so on, and one beyond the last; the edge 1 divides what is right from what is wrong."""

_WITHIN = RATIO_EDGES.index(1.0)  # The last bin of values within their tolerance.
_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class ErrorMap:
    """Wrong values by place and by size.

    The place of a value is where it lies on the last two axes that are longer than 1; all others
    are added up.

    Parameters
    ----------
    shape
        Of the tensor.
    axes
        The two axes, one if there is just one, none for a single value.
    bin_sizes
        How many places of each of these axes are one bin, the last of which may be smaller.
    wrong
        Wrong values in each bin, row by row; one row for one axis.
    ratios
        Judged values by error over tolerance, a number for each bin of ``RATIO_EDGES``.
    exact
        Judged values without any error.
    nonfinite
        Judged values that have no such ratio, since one side is NaN or infinite and the other is
        not the same; they are wrong.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    bin_sizes: tuple[int, ...]
    wrong: tuple[tuple[int, ...], ...]
    ratios: tuple[int, ...]
    exact: int
    nonfinite: int


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """What is counted in a part of a tensor."""

    wrong: Array
    ratios: Array
    exact: int
    nonfinite: int

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            wrong=self.wrong + other.wrong,
            ratios=self.ratios + other.ratios,
            exact=self.exact + other.exact,
            nonfinite=self.nonfinite + other.nonfinite,
        )


class _Grid:
    """The bins of a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.axes = tuple(axis for axis, size in enumerate(shape) if size > 1)[-2:]
        sizes = [shape[axis] for axis in self.axes]
        self.bin_sizes = tuple(-(-size // MOST_BINS) for size in sizes)
        counts = [-(-size // each) for size, each in zip(sizes, self.bin_sizes, strict=True)]
        self.rows, self.columns = [1] * (2 - len(counts)) + counts
        strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in self.axes]
        self._axes = list(zip(strides, sizes, self.bin_sizes, strict=True))

    def bins_of(self, flat: Array) -> Array:
        """Return the bin, rows times columns, of each flat index."""
        found = np.zeros(flat.size, dtype=np.int64)
        for (stride, size, each), count in zip(
            self._axes, (self.rows, self.columns)[-len(self._axes) :], strict=False
        ):
            found = found * count + flat // stride % size // each
        return found


def error_map(oracle: Array, actual: Array, tolerance: Tolerance) -> ErrorMap:
    """Return where two arrays of one shape and dtype differ by more than they may.

    It takes one more pass over the values, a block at a time, in threads where there are many.
    """
    grid = _Grid(oracle.shape)
    parts = parts_of(oracle, tolerance)
    found: dict[int, _Counts] = {}

    def count(number: int) -> None:
        counts = _counts(blocks(oracle, actual, tolerance, parts[number]), grid)
        found[number] = counts

    in_threads(count, range(len(parts)), most=_THREADS)
    total = found[0]
    for number in range(1, len(parts)):
        total += found[number]
    wrong = total.wrong.reshape(grid.rows, grid.columns)
    return ErrorMap(
        shape=oracle.shape,
        axes=grid.axes,
        bin_sizes=grid.bin_sizes,
        wrong=tuple(tuple(row) for row in wrong.tolist()),
        ratios=tuple(total.ratios.tolist()),
        exact=total.exact,
        nonfinite=total.nonfinite,
    )


def _counts(part: Iterator[Block], grid: _Grid) -> _Counts:
    wrong = np.zeros(grid.rows * grid.columns, dtype=np.int64)
    ratios = np.zeros(len(RATIO_EDGES) + 1, dtype=np.int64)
    exact = nonfinite = 0
    for block in part:
        judged = (
            np.ones(block.oracle.size, dtype=bool) if block.is_judged is None else (block.is_judged)
        )
        if block.is_identical:
            exact += int(np.count_nonzero(judged))
            continue
        is_wrong = wrong_values(block)
        places = np.flatnonzero(is_wrong)
        wrong += np.bincount(grid.bins_of(places + block.start), minlength=wrong.size)
        distance, allowed = block.distance, block.allowed
        is_apart = judged & (distance > 0)
        with np.errstate(all="ignore"):
            share = distance[is_apart] / allowed[is_apart]
        share[np.isnan(share)] = 0.0  # Both infinite.
        bins = np.searchsorted(RATIO_EDGES, share, side="left")
        # Where a division rounds to 1 the comparison decides.
        is_beyond = is_wrong[is_apart]
        bins = np.where(is_beyond, np.maximum(bins, _WITHIN + 1), np.minimum(bins, _WITHIN))
        ratios += np.bincount(bins, minlength=ratios.size)
        without = int(np.count_nonzero(is_wrong & ~is_apart))
        nonfinite += without
        exact += int(np.count_nonzero(judged)) - bins.size - without
    return _Counts(wrong=wrong, ratios=ratios, exact=exact, nonfinite=nonfinite)
