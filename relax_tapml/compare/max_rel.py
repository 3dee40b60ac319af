"""The largest difference relative to the oracle."""

from __future__ import annotations

import numpy as np

from relax_tapml.compare.dtypes import as_float64
from relax_tapml.frontend.model import Array


def max_rel(difference: Array, expected: Array) -> float:
    """Return the largest ``absolute_difference / |expected|`` where the oracle is not zero.

    0 where no such two values are both finite.
    """
    magnitude = np.abs(as_float64(expected))
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = np.divide(
            difference, magnitude, out=np.zeros_like(difference), where=magnitude != 0
        )
    return float(np.nanmax(ratio, initial=0.0))
