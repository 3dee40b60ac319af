"""Other values for inputs that held one value in all recorded calls, as masks do."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.carve.probe._recorded_call import RecordedCall, draws
from relax_tapml.carve.select.tensor_statistics import MASK

_MASKED = 0.125
"""The share of an additive mask of zeros that masks something in a probe."""


def constants(recorded: RecordedCall, number: int) -> dict[int, Array]:
    """Return other values for the inputs of floats and bool that held one value.

    A mask of zeros or ones hides what a kernel does with it: it may subtract it, or read one
    element of it twice and another never.

    Parameters
    ----------
    recorded
        The call.
    number
        0: an additive mask of zeros holds moderate values, a mask of ones holds zeros and ones;
        1: the first also masks something, the second holds values around one.

    Returns
    -------
    dict
        Arrays by position of the input.
    """
    found: dict[int, Array] = {}
    for place in sorted(recorded.constant):
        array = recorded.inputs[place]
        if array.size < 2:
            continue
        generator = draws(number, place, 5)
        if array.dtype.kind == "b":
            found[place] = _mixed(array, np.asarray(False), np.asarray(True), generator)
        elif is_float(array.dtype):
            found[place] = _floats(array, number, generator)
    return found


def _floats(array: Array, number: int, generator: np.random.Generator) -> Array:
    value = float(as_float64(array.reshape(-1)[:1])[0])
    if np.isnan(value) or value == np.inf:
        return array
    if value <= MASK or value == -np.inf or (value == 1 and number == 0):
        other = np.asarray(0.0, array.dtype)
        return _mixed(array, other, array.reshape(-1)[0], generator)
    if value != 0:
        return np.asarray((value * _uniform(generator, 0.5, 1.5, array)).astype(array.dtype))
    drawn = _uniform(generator, -1.5, 1.5, array).astype(array.dtype)
    if number == 0:
        return np.asarray(drawn)
    lowest = max(-1e9, float(finfo(array.dtype).min))
    is_masked = generator.random(array.shape) < _MASKED
    return np.where(is_masked, np.asarray(lowest).astype(array.dtype), drawn)


def _uniform(generator: np.random.Generator, low: float, high: float, like: Array) -> Array:
    return np.asarray(generator.uniform(low, high, like.shape))


def _mixed(array: Array, one: Array, other: Array, generator: np.random.Generator) -> Array:
    flat = generator.random(array.size) < 0.5
    # At least one of each.
    flat[generator.permutation(array.size)[:2]] = (False, True)
    return np.where(flat.reshape(array.shape), one, other).astype(array.dtype)
