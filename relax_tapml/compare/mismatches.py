"""Which values differ by more than they may."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from relax_tapml.compare.dtypes import as_float64, is_float
from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.frontend.model import Array

BEYOND = "beyond the tolerance"


def mismatches(
    difference: Array, expected: Array, actual: Array, tolerance: Tolerance
) -> Iterator[tuple[str, Array]]:
    """Yield each way values differ with the mask of where they do, the gravest first.

    Finite values differ if ``|actual - expected| > rtol * |expected| + atol``. A NaN matches a NaN
    only and an infinity one of its sign only; zeros match whatever their sign. The masks are
    disjoint; those of ways that do not occur are not yielded.

    Parameters
    ----------
    difference
        The ``absolute_difference`` of the two arrays.
    expected, actual
        Of one shape and one dtype.
    tolerance
        For values that are both finite.

    Yields
    ------
    tuple[str, Array]
        What happens, such as ``NaN where the oracle is finite``, and a bool array.
    """
    wide_expected, wide_actual = as_float64(expected), as_float64(actual)
    with np.errstate(over="ignore", invalid="ignore"):
        allowed = tolerance.rtol * np.abs(wide_expected) + tolerance.atol
        beyond = difference > allowed
    masks = _nonfinite(wide_expected, wide_actual) if is_float(expected.dtype) else {}
    for what, mask in (masks | {BEYOND: beyond}).items():
        if mask.any():
            yield what, mask


def _nonfinite(expected: Array, actual: Array) -> dict[str, Array]:
    is_nan, was_nan = np.isnan(actual), np.isnan(expected)
    is_inf, was_inf = np.isinf(actual), np.isinf(expected)
    was_finite = ~(was_nan | was_inf)
    return {
        "NaN where the oracle is finite": is_nan & was_finite,
        "NaN where the oracle is infinite": is_nan & was_inf,
        "infinite where the oracle is finite": is_inf & was_finite,
        "infinite with the other sign": is_inf & was_inf & (actual != expected),
        "infinite where the oracle is NaN": is_inf & was_nan,
        "finite where the oracle is NaN": was_nan & ~is_nan & ~is_inf,
        "finite where the oracle is infinite": was_inf & ~is_nan & ~is_inf,
    }
