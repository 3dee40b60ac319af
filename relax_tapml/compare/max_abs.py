"""The largest absolute difference."""

from __future__ import annotations

import numpy as np

from relax_tapml.frontend.model import Array


def max_abs(difference: Array) -> float:
    """Return the largest of ``absolute_difference``; 0 where no two values are both finite."""
    return float(np.nanmax(difference, initial=0.0))
