"""From an exact value and an error to how far a result may be from its oracle."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.compare.difference import absolute_difference
from relax_tapml.derive._precision import underflow


def output_error_bounds(value: Array, error: Array | None, oracle: Array) -> tuple[Array, float]:
    """Return how far each result may be from its oracle, and how far off the oracle itself is.

    A legal result is what rounds from somewhere within ``error`` of ``value``. The bound reaches
    from the oracle to the farthest of them.

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
        float64, of the oracle's shape; NaN where the result is not judged: where the error is not
        finite, or where the oracle is NaN or infinite and exact arithmetic is not.
    excess
        The largest distance of an oracle from what is legal, in multiples of that error; at most 1
        if the source is as accurate as it should be.
    """
    if not is_float(oracle.dtype):
        return _whole(value, error, oracle)
    shape = oracle.shape
    # NumPy turns results without axes into scalars, which cannot be written to.
    wide, value = as_float64(oracle).reshape(-1), value.reshape(-1)
    reach = np.zeros(value.shape) if error is None else error.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        low, middle, high = (
            _rounded(x, oracle.dtype) for x in (value - reach, value, value + reach)
        )
        # What rounds to the largest number does not overflow because its neighbours would.
        largest = float(finfo(oracle.dtype).max)
        is_finite = np.isfinite(middle)
        low[is_finite] = np.maximum(low[is_finite], -largest)
        high[is_finite] = np.minimum(high[is_finite], largest)
        bound = np.maximum(np.abs(low - wide), np.abs(high - wide))
        own = np.maximum(high - middle, middle - low) + underflow(oracle.dtype.name)
        excess = np.abs(middle - wide) / own
        bound += underflow(oracle.dtype.name)
        bound[~(np.isfinite(bound) & (reach < largest))] = np.nan
        agrees = (middle == wide) | (np.isnan(value) & np.isnan(wide))
        bound[agrees & ~np.isfinite(wide)] = 0.0
    finite = excess[np.isfinite(excess)]
    return bound.reshape(shape), float(finite.max(initial=0.0))


def _rounded(value: Array, dtype: np.dtype[np.generic]) -> Array:
    return np.asarray(as_float64(value.astype(dtype)))


def _whole(value: Array, error: Array | None, oracle: Array) -> tuple[Array, float]:
    apart = absolute_difference(oracle, value)
    if error is None:
        return apart, 0.0
    if oracle.dtype.kind == "b":
        return np.where(error != 0, np.nan, apart), 0.0
    return np.where(np.isfinite(error), apart + error, np.nan), 0.0


def rounded_up(bound: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return bounds in a dtype of 16 bits, none smaller than it was; float64 for a float64 oracle.

    Infinities, which stand for nothing, become NaN: not judged.
    """
    if dtype == np.float64:
        return bound
    shape, bound = bound.shape, bound.reshape(-1)
    with np.errstate(over="ignore"):
        narrow = bound.astype(np.float32)
    narrow = np.where(narrow < bound, np.nextafter(narrow, np.float32(np.inf)), narrow)
    bits = narrow.view(np.uint32)
    is_finite = np.isfinite(narrow)
    up = np.where(is_finite, bits + np.uint32(0xFFFF), bits) >> np.uint32(16)
    rounded = np.asarray(up, np.uint16).view(ml_dtypes.bfloat16)
    rounded[~np.isfinite(rounded)] = np.nan
    return np.asarray(rounded.reshape(shape))
