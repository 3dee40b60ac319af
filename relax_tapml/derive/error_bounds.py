"""How far a result may be from its oracle, given the exact value and its error."""

from __future__ import annotations

from typing import Any

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float, is_integer
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance, rounded_up
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.cores import in_threads, slices
from relax_tapml.derive._precision import underflow

_EXCESS = "; the source is"
_PART = 1 << 16  # What one of them takes stays in a cache.


def output_error_bounds(value: Array, error: Array | None, oracle: Array) -> tuple[Array, float]:
    """Return how far each result may be from its oracle, and how far off the oracle itself is.

    A legal result is any value within ``error`` of ``value``, rounded to the oracle's dtype. The
    bound is the distance from the oracle to the farthest legal result.

    Parameters
    ----------
    value
        In exact arithmetic: float64 for a float oracle, else of the oracle's dtype.
    error
        float64; for bool, nonzero where the opposite is legal. None for zeros.
    oracle
        What the source returned.

    Returns
    -------
    bound
        float64, of the oracle's shape. NaN where the result is not judged: where the error is not
        finite, or where the oracle is NaN or infinite but the exact value is not.
    excess
        The largest distance of an oracle from what is legal, in multiples of that error; at most 1
        if the source is as accurate as it should be.
    """
    return _bounds(value, error, oracle, np.dtype(np.float64))


def kept_error_bounds(value: Array, error: Array | None, oracle: Array) -> tuple[Array, float]:
    """Return the same with the bounds as a tolerance keeps them: rounded up, mostly to 16 bits."""
    return _bounds(value, error, oracle, rounded_up(np.zeros(1), oracle.dtype).dtype)


def _bounds(
    value: Array, error: Array | None, oracle: Array, dtype: np.dtype[Any]
) -> tuple[Array, float]:
    def rounded(bound: Array) -> Array:
        return bound if dtype == np.float64 else rounded_up(bound, oracle.dtype)

    if not is_float(oracle.dtype):
        whole, excess = _whole(value, error, oracle)
        return rounded(whole), excess
    # Flat: NumPy turns results without axes into scalars, which cannot be written to.
    flat, value = oracle.reshape(-1), value.reshape(-1)
    radius = None if error is None else error.reshape(-1)
    bound = np.empty(flat.shape, dtype)
    largest = [0.0]

    # In parts: the temporaries of a large result would be many times its size.
    def fill(part: slice) -> None:
        own = np.zeros(value[part].shape) if radius is None else radius[part]
        found, excess = _float_bounds(value[part], own, flat[part])
        bound[part] = rounded(found)
        largest.append(excess)

    in_threads(fill, slices(flat.size, _PART))
    return bound.reshape(oracle.shape), max(largest)


def _float_bounds(value: Array, radius: Array, oracle: Array) -> tuple[Array, float]:
    wide = as_float64(oracle)
    with np.errstate(invalid="ignore", over="ignore"):
        low, middle, high = (
            _rounded(x, oracle.dtype) for x in (value - radius, value, value + radius)
        )
        # A value that rounds to the largest number is finite, although its neighbours overflow.
        largest = float(finfo(oracle.dtype).max)
        is_finite = np.isfinite(middle)
        low[is_finite] = np.maximum(low[is_finite], -largest)
        high[is_finite] = np.minimum(high[is_finite], largest)
        bound = np.maximum(np.abs(low - wide), np.abs(high - wide))
        own = np.maximum(high - middle, middle - low) + underflow(oracle.dtype.name)
        excess = np.abs(middle - wide) / own
        bound += underflow(oracle.dtype.name)
        bound[~(np.isfinite(bound) & (radius < largest))] = np.nan
        agrees = (middle == wide) | (np.isnan(value) & np.isnan(wide))
        bound[agrees & ~np.isfinite(wide)] = 0.0
    finite = excess[np.isfinite(excess)]
    return bound, float(finite.max(initial=0.0))


def _rounded(value: Array, dtype: np.dtype[np.generic]) -> Array:
    return np.asarray(as_float64(value.astype(dtype)))


def _whole(value: Array, error: Array | None, oracle: Array) -> tuple[Array, float]:
    apart = absolute_difference(oracle, value)
    if error is None:
        return apart, 0.0
    if oracle.dtype.kind == "b":
        return np.where(error != 0, np.nan, apart), 0.0
    return np.where(np.isfinite(error), apart + error, np.nan), 0.0


def bound_tolerance(bound: Array, excess: float, oracle: Array, origin: str) -> Tolerance:
    """Return the tolerance of what ``output_error_bounds`` returned.

    Parameters
    ----------
    bound, excess
        From there.
    oracle
        What the source returned.
    origin
        How the exact value and its error were found.
    """
    if is_integer(oracle.dtype) and not bound.any():
        return equal_values(oracle.dtype)
    return ElementTolerance(
        bound=rounded_up(bound, oracle.dtype), origin=origin + excess_text(excess)
    )


def excess_text(excess: float) -> str:
    """Return what an origin adds where the source is less accurate than a kernel should be."""
    if excess <= 1:
        return ""
    return f"{_EXCESS} up to {excess:.2g} times as far from it and is allowed"


def has_excess(tolerance: Tolerance) -> bool:
    """Return whether a tolerance allows for a source that is less accurate than a kernel should be.

    Such a source may return other values for the same inputs at another place of an axis.
    """
    return _EXCESS in tolerance.origin


def equal_values(dtype: np.dtype[np.generic]) -> EqualTolerance:
    """Return the tolerance of integers and bool that rounding does not change."""
    return EqualTolerance(origin=f"{dtype} values must be equal")
