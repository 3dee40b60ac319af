"""Root mean squares of many magnitudes, which are made part by part, in threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.cores import in_threads, slices

PART = 1 << 18
"""How many values are worked on at once: their float64 temporaries stay in a cache."""

Magnitudes = Callable[[slice], Array]
"""For a slice of a flattened tensor the magnitudes that count there: float64, finite, none
negative, one axis, as many as there are."""

# The first bits of a float64, without its sign: 4 of them of the fraction.
_BINS, _SHIFT = 1 << 15, 48


def root_mean_square_of(magnitudes: Magnitudes, size: int) -> float:
    """Return the root mean square of all magnitudes of a tensor of ``size`` values; 0 of none."""
    sums: list[tuple[float, int]] = []

    def add(part: slice) -> None:
        found = magnitudes(part)
        sums.append((_sum_of_squares(found), found.size))

    in_threads(add, slices(size, PART))
    return _root_mean(sorted(total for total, _ in sums), sum(count for _, count in sums))


def trimmed_root_mean_square(magnitudes: Magnitudes, size: int, outliers: float) -> float:
    """Return the root mean square of all magnitudes but the largest; 0 of none.

    Parameters
    ----------
    magnitudes, size
        As for ``root_mean_square_of``. They are made twice.
    outliers
        Which part of the magnitudes is left out; one is always kept.
    """
    counted: list[Array] = []

    def count(part: slice) -> None:
        counted.append(np.bincount(_bins(magnitudes(part)), minlength=_BINS))

    in_threads(count, slices(size, PART))
    ends = np.cumsum(np.sum(counted, axis=0)) if counted else np.zeros(_BINS, np.int64)
    kept = max(1, int(int(ends[-1]) * (1 - outliers)))
    if not ends[-1]:
        return 0.0
    # The bin with the largest one that is kept; of it only some may be.
    last = int(np.searchsorted(ends, kept))
    sums: list[float] = []
    inside: list[Array] = []

    def add(part: slice) -> None:
        found = magnitudes(part)
        bins = _bins(found)
        sums.append(_sum_of_squares(found[bins < last]))
        inside.append(found[bins == last])

    in_threads(add, slices(size, PART))
    some = np.concatenate(inside)
    count_inside = kept - (int(ends[last - 1]) if last else 0)
    smallest = np.partition(some, count_inside - 1)[:count_inside]
    return _root_mean([*sorted(sums), _sum_of_squares(smallest)], kept)


def _bins(magnitudes: Array) -> Array:
    return (magnitudes.view(np.uint64) >> np.uint64(_SHIFT)).astype(np.int64)


def _sum_of_squares(values: Array) -> float:
    with np.errstate(over="ignore"):
        return float(np.sum(np.square(values)))


def _root_mean(sums: list[float], count: int) -> float:
    # In an order that does not depend on threads.
    return math.sqrt(sum(sums) / count) if count else 0.0
