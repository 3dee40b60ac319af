"""The distance of the values that two sets of indices choose."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.compare.tolerances.difference import absolute_difference


def chosen_distance(values: Array, axis: int, oracle: Array, actual: Array) -> Array:
    """Return ``|values[actual] - values[oracle]|``; see ``IndexTolerance.distance``.

    Parameters
    ----------
    values
        Of any float, integer or bool type.
    axis
        The axis of ``values`` that the indices count along.
    oracle, actual
        Indices of one shape and one integer type. Those of the oracle are in range.

    Returns
    -------
    Array
        float64, of the oracle's shape.

    Raises
    ------
    ValueError
        The shape of the indices does not fit that of ``values``.
    """
    shape = oracle.shape
    axis = axis % max(values.ndim, 1)
    if oracle.ndim == values.ndim - 1:
        oracle, actual = np.expand_dims(oracle, axis), np.expand_dims(actual, axis)
    is_choice = 0 < values.ndim == oracle.ndim
    if not is_choice or _without(oracle, axis) != _without(values, axis):
        raise ValueError(
            f"indices of shape {list(shape)} do not choose along axis {axis} of "
            f"{list(values.shape)}: expected the same shape except along that axis"
        )
    if np.array_equal(oracle, actual):
        return np.zeros(shape)
    length = values.shape[axis]
    if length == 0:
        return np.where(oracle == actual, 0.0, np.inf).reshape(shape)
    is_equal = oracle == actual
    is_in_range = (actual >= 0) & (actual < length) & (oracle >= 0) & (oracle < length)
    is_wrong = ~is_in_range | _repeats(actual, oracle, axis, length)
    chosen = np.take_along_axis(values, _within(actual, length), axis)
    expected = np.take_along_axis(values, _within(oracle, length), axis)
    distance = _value_distance(expected, chosen)
    distance[is_wrong] = np.inf
    distance[is_equal] = 0.0
    return distance.reshape(shape)


def chosen(values: Array, axis: int, indices: Array) -> Array:
    """Return the values that indices choose along an axis: float64, of the indices' shape.

    Indices are brought into range. The arguments are as for ``chosen_distance``.
    """
    axis = axis % max(values.ndim, 1)
    wide = as_float64(values)
    if values.shape[axis] == 0:
        return np.zeros(indices.shape)
    kept = np.expand_dims(indices, axis) if indices.ndim == values.ndim - 1 else indices
    found = np.take_along_axis(wide, _within(kept, values.shape[axis]), axis)
    return np.asarray(found.reshape(indices.shape))


def _within(indices: Array, length: int) -> Array:
    return np.asarray(np.clip(indices, 0, length - 1), np.int64)


def _value_distance(expected: Array, chosen: Array) -> Array:
    distance = absolute_difference(expected, chosen)
    if is_float(expected.dtype):
        wide_expected, wide_chosen = as_float64(expected), as_float64(chosen)
        are_nan = np.isnan(wide_expected) & np.isnan(wide_chosen)
        distance[np.isnan(distance)] = np.inf
        distance[are_nan | (wide_expected == wide_chosen)] = 0.0
    return distance


def _repeats(actual: Array, oracle: Array, axis: int, length: int) -> Array:
    """Return where an index occurs twice along the axis that the oracle has at most once there."""
    lanes = np.moveaxis(actual, axis, -1)
    starts = np.arange(lanes[..., 0].size, dtype=np.int64).reshape(lanes.shape[:-1])[..., None]
    keys = _within(lanes, length) + starts * length
    expected = _within(np.moveaxis(oracle, axis, -1), length) + starts * length
    repeated = np.setdiff1d(_repeated(keys), _repeated(expected), assume_unique=True)
    return np.moveaxis(np.isin(keys, repeated), -1, axis)


def _repeated(keys: Array) -> Array:
    found, counts = np.unique(keys, return_counts=True)
    return found[counts > 1]


def _without(array: Array, axis: int) -> tuple[int, ...]:
    return tuple(array.shape[:axis] + array.shape[axis + 1 :])
