"""The largest distance in units in the last place."""

from __future__ import annotations

import numpy as np

from relax_tapml.compare.dtypes import as_float64, finfo
from relax_tapml.frontend.model import Array

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def max_ulp(expected: Array, actual: Array) -> int:
    """Return how many representable values at most lie from one value to the other.

    Neighbours are 1 apart, both zeros 0, whatever the exponent; 0 where no two values are both
    finite.

    Parameters
    ----------
    expected, actual
        Of one shape and one float type, from float4 to float64.
    """
    finite = np.isfinite(as_float64(expected)) & np.isfinite(as_float64(actual))
    left, is_left_negative = _sign_and_magnitude(expected[finite])
    right, is_right_negative = _sign_and_magnitude(actual[finite])
    distance = np.where(
        is_left_negative == is_right_negative,
        np.maximum(left, right) - np.minimum(left, right),
        left + right,
    )
    return int(distance.max(initial=0))


def _sign_and_magnitude(array: Array) -> tuple[Array, Array]:
    bits = array.view(_UNSIGNED[array.dtype.itemsize]).astype(np.uint64)
    if array.dtype.name == "float8_e8m0fnu":  # a power of two, without a sign
        return bits, np.zeros(bits.shape, bool)
    sign = np.uint64(1 << (finfo(array.dtype).bits - 1))
    return bits & (sign - np.uint64(1)), (bits & sign) != 0
