"""Large weights of which a suite holds some columns, with results that follow from these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from relax_tapml import tensor_file
from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.cores import in_threads, slices
from relax_tapml.suite.suite_files import HeldPart

LEAST_BYTES = 1 << 20
_HELD_BYTES = 1 << 18
_LEAST_HELD = 16
_LARGEST_SHARE = 0.25
_SEED = 0
_TILE = 256


@dataclass(frozen=True, kw_only=True)
class CaseTensors:
    """The tensors of a case.

    Parameters
    ----------
    inputs, outputs, tolerances
        In order.
    parts
        What is held of those that are not held whole, by position among inputs and outputs.
    reason
        What was done to weights, for people; empty where nothing was.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    tolerances: tuple[Tolerance, ...]
    input_parts: Mapping[int, HeldPart] = field(default_factory=dict)
    output_parts: Mapping[int, HeldPart] = field(default_factory=dict)
    reason: str = ""


def case_tensors(unit: UnitTolerances, calls: Sequence[CallTensors]) -> list[CaseTensors]:
    """Return the tensors of cases, large weights filled where that changes no recorded result.

    Along an axis on which the unit computes each element of its results by itself, as the columns
    of a product, some places of a weight stay as they were recorded and the others are filled
    (``tensor_file.filled``). The results at the places that stay are those that were recorded. The
    others are the float64 evaluation of the unit, or, of a unit that only permutes the axes of a
    weight, the permuted weight.

    Parameters
    ----------
    unit
        Evaluates the unit.
    calls
        The recorded calls of the unit.

    Returns
    -------
    list of CaseTensors
        Of a call with copies, the held places.
    """
    axes = _axes_of_weights(unit, calls)
    weights: dict[str, _Filled] = {}
    for name, axis in axes.items():
        takers = [call for call in calls if name in call.weights]
        weights[name] = _Filled.of(unit, takers[0], name, axis)
    return [_of_call(unit.with_copies(call.copies), call, weights) for call in calls]


@dataclass(frozen=True, kw_only=True)
class _Filled:
    """A weight with some places as they were, and the others filled."""

    array: Array
    part: HeldPart

    @classmethod
    def of(cls, unit: UnitTolerances, call: CallTensors, name: str, axis: int) -> _Filled:
        place = call.weights.index(name)
        weight = call.inputs[place]
        count = weight.shape[axis]
        rng = np.random.default_rng((_SEED, count))
        drawn = rng.permutation(count)[: _held_places(weight, axis)]
        extreme = _extreme_places(unit, call, place, axis)
        places = np.unique(np.concatenate([drawn, extreme, [0, count - 1]])).astype(np.int64)
        array = tensor_file.filled(weight.take(places, axis), places, count, axis)
        return cls(array=array, part=HeldPart(places=places, axis=axis, is_filled=True))


def _axes_of_weights(unit: UnitTolerances, calls: Sequence[CallTensors]) -> dict[str, int]:
    """Return the weights that may be filled, with the axis; the same for all calls."""
    found: dict[str, int] = {}
    for name in dict.fromkeys(name for call in calls for name in call.weights if name):
        takers = [call for call in calls if name in call.weights]
        axes = [set(_fillable_axes(unit, call, name)) for call in takers]
        common = set.intersection(*axes)
        weight = takers[0].inputs[takers[0].weights.index(name)]
        if common:
            found[name] = max((weight.shape[axis], axis) for axis in common)[1]
    return found


def _fillable_axes(unit: UnitTolerances, call: CallTensors, name: str) -> Iterator[int]:
    if call.weights.count(name) != 1:
        return
    place = call.weights.index(name)
    weight = call.inputs[place]
    if weight.nbytes < LEAST_BYTES or not tensor_file.can_hold_part(weight):
        return
    for axis, results in unit.free_axes_of(call.function, place).items():
        count = weight.shape[axis]
        is_few = _held_places(weight, axis) <= _LARGEST_SHARE * count
        if is_few and all(call.outputs[n].shape[dim] == count for n, dim in results.items()):
            yield axis


def _held_places(weight: Array, axis: int) -> int:
    place_bytes: int = max(weight.nbytes // max(weight.shape[axis], 1), 1)
    return max(_LEAST_HELD, _HELD_BYTES // place_bytes)


def _extreme_places(unit: UnitTolerances, call: CallTensors, place: int, axis: int) -> Array:
    """Return where along the axis results are largest, smallest, and nearest to zero."""
    found: list[int] = []
    for number, dim in unit.free_axes_of(call.function, place)[axis].items():
        output = call.outputs[number]
        if output.nbytes >= call.inputs[place].nbytes:
            continue  # It is moved, not summed up.
        values = as_float64(output) if is_float(output.dtype) else output
        extremes = values.argmax(), values.argmin(), np.abs(values).argmin()
        found += (int(np.unravel_index(at, output.shape)[dim]) for at in extremes)
    return np.asarray(found, np.int64)


def _of_call(
    unit: UnitTolerances, call: CallTensors, weights: Mapping[str, _Filled]
) -> CaseTensors:
    taken = {
        place: weights[name]
        for place, name in enumerate(call.weights)
        if name is not None and name in weights
    }
    if taken:
        found = _permuted(unit, call, taken) or _evaluated(unit, call, taken)
        if found is not None:
            return found
    reason = f"weights are held whole: {unit.unevaluated}" if taken else ""
    tolerances = tuple(unit.of(call.function, call.inputs, call.outputs))
    return CaseTensors(
        inputs=call.inputs, outputs=call.outputs, tolerances=tolerances, reason=reason
    )


def _evaluated(
    unit: UnitTolerances, call: CallTensors, taken: Mapping[int, _Filled]
) -> CaseTensors | None:
    inputs = tuple(
        taken[place].array if place in taken else array for place, array in enumerate(call.inputs)
    )
    kept = [[np.arange(extent) for extent in output.shape] for output in call.outputs]
    for place, weight in taken.items():
        for number, dim in unit.free_axes_of(call.function, place)[weight.part.axis].items():
            kept[number][dim] = np.intersect1d(kept[number][dim], weight.part.places)
    recorded = [tuple(places) for places in kept]
    found = unit.evaluated(call.function, inputs, call.outputs, recorded=recorded)
    if found is None:
        return None
    outputs, tolerances = found
    what = "results at the others are the float64 evaluation"
    return CaseTensors(
        inputs=inputs,
        outputs=tuple(outputs),
        tolerances=tuple(tolerances),
        input_parts={place: weight.part for place, weight in taken.items()},
        reason=_reason(call, taken, what),
    )


def _permuted(
    unit: UnitTolerances, call: CallTensors, taken: Mapping[int, _Filled]
) -> CaseTensors | None:
    """Return the case of a unit that permutes the axes of its one input; None of another."""
    if len(call.inputs) != 1 or len(call.outputs) != 1:
        return None
    (weight,), (output,) = call.inputs, call.outputs
    dims = {axis: of.get(0) for axis, of in unit.free_axes_of(call.function, 0).items()}
    if len(dims) != weight.ndim or set(dims.values()) != set(range(output.ndim)):
        return None
    order = [axis for axis, _ in sorted(dims.items(), key=lambda item: item[1] or 0)]
    if weight.dtype != output.dtype or not _is_same(weight.transpose(order), output):
        return None
    filled = taken[0]
    permuted = filled.array.transpose(order)
    axis = order.index(filled.part.axis)
    part = HeldPart(places=filled.part.places, axis=axis, is_filled=True)
    # NumPy would copy all of a permuted array to take some places of it.
    held = filled.array.take(part.places, filled.part.axis)
    values = np.ascontiguousarray(held.transpose(order))
    made = tensor_file.filled(values, part.places, permuted.shape[axis], axis)
    # Where more than one other axis is permuted, the result is filled in another order.
    is_filled = _is_same(permuted, made)
    if not is_filled:
        made = np.ascontiguousarray(permuted)
    return CaseTensors(
        inputs=(filled.array,),
        outputs=(made,),
        tolerances=tuple(unit.of(call.function, [filled.array], [made])),
        input_parts={0: filled.part},
        output_parts={0: part} if is_filled else {},
        reason=_reason(call, taken, "the result is the filled weight, permuted"),
    )


def _is_same(one: Array, other: Array) -> bool:
    """Whether arrays hold the same bits.

    They are compared in tiles of the first and the last axis: either may lie in memory in any
    order.
    """
    if one.shape != other.shape:
        return False
    if one.ndim < 2:
        return one.tobytes() == other.tobytes()
    bits = f"u{one.itemsize}"
    rows = max(1, _TILE // max(1, math.prod(one.shape[1:-1])))
    different: list[slice] = []

    def compare(band: slice) -> None:
        for column in slices(one.shape[-1], _TILE):
            if different:
                return
            part = band, ..., column
            if not np.array_equal(one[part].view(bits), other[part].view(bits)):
                different.append(band)

    in_threads(compare, slices(len(one), rows))
    return not different


def _reason(call: CallTensors, taken: Mapping[int, _Filled], what: str) -> str:
    held = ", ".join(
        f"{len(weight.part.places)} of {weight.array.shape[weight.part.axis]} places of axis "
        f"{weight.part.axis} of {call.weights[place]}"
        for place, weight in taken.items()
    )
    return f"recorded are {held}, the others are filled with values of these; {what}"
