"""Which inputs of a unit were the same in all of its cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relax_tapml.arrays import Array


def holds_one_value(arrays: Sequence[Array]) -> bool:
    """Return whether some arrays, of any shapes, hold one value throughout, the same in all."""
    firsts = [array.reshape(-1)[:1] for array in arrays if array.size]
    return bool(firsts) and all(
        array.dtype == firsts[0].dtype and bool(np.all(array == firsts[0])) for array in arrays
    )


def constant_text(arrays: Sequence[Array]) -> str:
    """Say in what way an input was the same in all cases; empty if it was not.

    Parameters
    ----------
    arrays
        The input of each case, at least one.
    """
    if all(array.size == 0 for array in arrays):
        return ""
    if holds_one_value(arrays):
        first = next(array for array in arrays if array.size)
        return f"all {first.reshape(-1)[0]}"
    one, *others = arrays
    is_same = all(
        other is one or (other.shape == one.shape and other.tobytes() == one.tobytes())
        for other in others
    )
    return "the same values" if is_same else ""
