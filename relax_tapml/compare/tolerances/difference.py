"""The absolute difference of two arrays, value by value."""

from __future__ import annotations

import math

import numpy as np

from relax_tapml.arrays import Array, as_float64, is_float


def absolute_difference(expected: Array, actual: Array) -> Array:
    """Return ``|actual - expected|`` in float64, NaN where either is not finite.

    Parameters
    ----------
    expected, actual
        Of one shape and one dtype, of any float, integer or bool type.

    Returns
    -------
    Array
        float64, same shape. For 64-bit integers the difference is taken exactly, then rounded.
    """
    if is_float(expected.dtype):
        wide_expected, wide_actual = as_float64(expected), as_float64(actual)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.asarray(wide_actual - wide_expected)
            np.abs(difference, out=difference)
            is_finite = math.isfinite(difference.sum())
        if not is_finite:
            difference[~(np.isfinite(wide_expected) & np.isfinite(wide_actual))] = np.nan
        return difference
    kind = np.uint64 if expected.dtype.kind in "bu" else np.int64
    left, right = expected.astype(kind), actual.astype(kind)
    # Unsigned arithmetic wraps to the exact distance, which int64 cannot hold.
    unsigned = np.maximum(left, right).view(np.uint64) - np.minimum(left, right).view(np.uint64)
    return np.asarray(unsigned, np.float64)
