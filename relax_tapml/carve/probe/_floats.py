"""Other floats for a call: the recorded ones, shuffled, larger or smaller."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from relax_tapml.arrays import Array, as_float64
from relax_tapml.carve.probe._recorded_call import RecordedCall
from relax_tapml.carve.select.tensor_statistics import MASK
from relax_tapml.cores import in_threads, slices

_PART = 1 << 16  # Values that are worked on at once: they stay in a cache.
# The first that the unit can be evaluated for. Whole numbers times these have digits to lose.
_FACTORS = ((997.0, 61.7, 7.3, 1.9), (-1.03e-12, 1.03e-12, -1.03e-3, 1.03e-3))


def shuffled(recorded: RecordedCall, number: int) -> dict[int, Array]:
    """Return the floats and bool of a call in another order, by position of the input."""
    found: dict[int, Array] = {}
    for place in (*recorded.floats, *recorded.bools):
        array = recorded.inputs[place]
        generator = np.random.default_rng([number, place])
        found[place] = _shuffled(array.reshape(-1), generator).reshape(array.shape)
    return found


def _shuffled(flat: Array, generator: np.random.Generator) -> Array:
    """Return values in another order.

    Of a large array its parts change places, and the values within each, in one order for all: that
    takes no list of all places, nor reads from places all over the memory.
    """
    if flat.size <= _PART:
        return np.asarray(flat[generator.permutation(flat.size)])
    found = np.empty_like(flat)
    order = generator.permutation(_PART)
    count = flat.size // _PART
    whole = flat[: count * _PART].reshape(count, _PART)
    moved = found[: count * _PART].reshape(count, _PART)
    parts = generator.permutation(count)

    def move(part: int) -> None:
        np.take(whole[parts[part]], order, out=moved[part])

    in_threads(move, range(count))
    # By places: ``permutation`` of no values at all would write to the array, which may be mapped.
    rest = flat[count * _PART :]
    found[count * _PART :] = rest[generator.permutation(rest.size)]
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
    flat = array.reshape(-1)
    found = np.empty_like(flat)

    def fill(part: slice) -> None:
        wide = as_float64(flat[part])
        # Far from the limit of the dtype, so that a product of two does not reach it at once.
        is_ordinary = np.isfinite(wide) & (wide > MASK) & (wide < -MASK)
        with np.errstate(invalid="ignore", over="ignore"):
            found[part] = np.where(is_ordinary, wide * factor, wide)

    in_threads(fill, slices(flat.size, _PART))
    return found.reshape(array.shape)
