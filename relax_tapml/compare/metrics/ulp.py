"""Distances in units in the last place."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo


def max_ulp(expected: Array, actual: Array) -> int:
    """Return the largest number of representable values from one value to the other.

    0 where no two values are both finite; see ``ulp_distance``.
    """
    are_finite = np.isfinite(as_float64(expected)) & np.isfinite(as_float64(actual))
    return int(ulp_distance(expected[are_finite], actual[are_finite]).max(initial=0))


def ulp_distance(expected: Array, actual: Array) -> Array:
    """Return the number of representable values from one value to the other, unsigned.

    It is 1 for neighbours and 0 for the two zeros, for any exponent.

    Parameters
    ----------
    expected, actual
        Finite, of one shape and one float type, from float4 to float64.
    """
    left, right = _ranks(expected), _ranks(actual)
    # Unsigned arithmetic wraps to the distance of the extremes, which needs all bits.
    unsigned = np.dtype(f"u{left.dtype.itemsize}")
    larger, smaller = np.maximum(left, right), np.minimum(left, right)
    return np.asarray(larger.view(unsigned) - smaller.view(unsigned))


def _ranks(array: Array) -> Array:
    """Return signed integers in the order of the values, 0 for both zeros."""
    kind = np.dtype(f"i{array.dtype.itemsize}")
    bits = np.require(array, requirements="C").view(kind)
    if array.dtype.name == "float8_e8m0fnu":  # a power of two, without a sign
        return bits.view(np.uint8)
    used, width = finfo(array.dtype).bits, 8 * kind.itemsize
    # All ones for negative values: the sign is shifted up to the top, then all the way down.
    sign = (bits << (width - used)) >> (width - 1)
    magnitude = bits & kind.type((1 << (used - 1)) - 1)
    return np.asarray((magnitude ^ sign) - sign)
