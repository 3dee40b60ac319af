"""Which values are not finite, on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relax_tapml.compare.dtypes import as_float64, is_float
from relax_tapml.frontend.model import Array


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """How many values are NaN or infinite.

    Parameters
    ----------
    expected_nan, expected_inf
        In the oracle.
    actual_nan, actual_inf
        In the result.
    """

    expected_nan: int = 0
    expected_inf: int = 0
    actual_nan: int = 0
    actual_inf: int = 0


def count_nonfinite(expected: Array, actual: Array) -> NonFinite:
    """Count the values that are not finite; integers always are."""
    if not is_float(expected.dtype):
        return NonFinite()
    wide_expected, wide_actual = as_float64(expected), as_float64(actual)
    return NonFinite(
        expected_nan=int(np.isnan(wide_expected).sum()),
        expected_inf=int(np.isinf(wide_expected).sum()),
        actual_nan=int(np.isnan(wide_actual).sum()),
        actual_inf=int(np.isinf(wide_actual).sum()),
    )
