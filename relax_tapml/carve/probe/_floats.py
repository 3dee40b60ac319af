"""Other floats for a call: the recorded ones, shuffled, larger or smaller."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from relax_tapml.arrays import Array, as_float64
from relax_tapml.carve.probe._recorded_call import RecordedCall
from relax_tapml.carve.select.tensor_statistics import MASK

# The first that the unit can be evaluated for. Whole numbers times these have digits to lose.
_FACTORS = ((997.0, 61.7, 7.3, 1.9), (-1.03e-12, 1.03e-12, -1.03e-3, 1.03e-3))


def shuffled(recorded: RecordedCall, number: int) -> dict[int, Array]:
    """Return the floats and bool of a call in another order, by position of the input."""
    found: dict[int, Array] = {}
    for place in (*recorded.floats, *recorded.bools):
        array = recorded.inputs[place]
        order = np.random.default_rng([number, place]).permutation(array.size)
        found[place] = array.reshape(-1)[order].reshape(array.shape)
    return found


def scaled(arrays: dict[int, Array], number: int) -> Iterator[tuple[dict[int, Array], str]]:
    """Yield floats at other scales, and the factor in words; NaN, infinities and masks stay.

    Parameters
    ----------
    arrays
        Floats by position of the input. Without any nothing is scaled, which counts as one scale.
    number
        0: larger; 1: smaller, of the other sign.
    """
    if not arrays:
        yield {}, ""
        return
    for factor in _FACTORS[number]:
        changed = {place: times(array, factor) for place, array in arrays.items()}
        yield changed, f"times {factor:g}"


def times(array: Array, factor: float) -> Array:
    """Return floats times a factor, apart from NaN, infinities and mask values."""
    wide = as_float64(array)
    # Far from the limit of the dtype, so that a product of two does not reach it at once.
    is_ordinary = np.isfinite(wide) & (wide > MASK) & (wide < -MASK)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.where(is_ordinary, wide * factor, wide).astype(array.dtype))
