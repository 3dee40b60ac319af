"""Which inputs of a unit were the same in all of its cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relax_tapml.frontend.model import Array


def holds_one_value(arrays: Sequence[Array]) -> bool:
    """Return whether some arrays, of any shapes, hold one value throughout, the same in all."""
    firsts = [array.reshape(-1)[:1] for array in arrays if array.size]
    return bool(firsts) and all(
        array.dtype == firsts[0].dtype and bool(np.all(array == firsts[0])) for array in arrays
    )
