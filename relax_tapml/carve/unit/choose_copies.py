"""Large results of which a suite holds some rows or columns: the inputs of the others are copies.

Along a free axis (``kernel_flow.free_axes``) a kernel computes each place of its results from the
same place of its inputs. Where the inputs at two places are the same, so are the results. So all
places of such an axis become copies of a few recorded ones, in every input that has the axis; then
the recorded results at these few are the oracle of all, and nothing else need be held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tvm

from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.copied_axes import CopiedAxes, CopiedAxis, held_places
from relax_tapml.carve.unit.held_call import kernel_axes
from relax_tapml.derive.choice_derivation import can_restrict
from relax_tapml.kernel_flow.kernel_call import KernelCall, kernel_call_of
from relax_tapml.tensor_file import can_hold_part

_LEAST_HELD = 16
_LEAST_TIMES = 4
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a suite should hold of a tensor that is no weight.

    Parameters
    ----------
    most_bytes
        Of what is smaller all is held.
    held_bytes
        About what is held of a larger one: at least 16 places of an axis, at most a quarter.
        Weights that have the axis are cut to this, too.
    weight_axes_bytes
        Places along an axis that a weight has become copies only where a tensor is larger than
        this. Not less than ``most_bytes``.
    """

    most_bytes: int
    held_bytes: int
    weight_axes_bytes: int

    def most_on(self, axis: _Axis, call: CallTensors) -> int:
        """Return of how many bytes a tensor may be whose places along an axis all differ."""
        return self.weight_axes_bytes if axis.has_weight(call) else self.most_bytes


RECORDED = Limits(most_bytes=1 << 20, held_bytes=1 << 20, weight_axes_bytes=1 << 20)
EXACT = Limits(most_bytes=1 << 22, held_bytes=1 << 22, weight_axes_bytes=1 << 25)
"""Of probes with exact sums: these see which column of a weight is read, by equality."""


def exact_copies(module: tvm.IRModule, call: CallTensors) -> CopiedAxes:
    """Return the axes along which places of a call become copies where its sums are exact."""
    return copied_axes(module, call, EXACT)


def with_copies(module: tvm.IRModule, calls: Sequence[CallTensors]) -> list[CallTensors]:
    """Return the calls of a unit with copies along the axes that ``copied_axes`` chooses.

    Calls of the same shapes hold the same places, so a weight is one tensor in all of them. A
    weight with copies has no name in what is returned: ``part_weights`` leaves it as it is.
    """
    chosen: dict[tuple[object, ...], CopiedAxes] = {}
    # By array and its copies: two inputs that are one array may have copies along other axes.
    made: dict[tuple[int, int], Array] = {}
    found = []
    for call in calls:
        shapes = [array.shape for array in (*call.inputs, *call.outputs)]
        key = (call.function, call.weights, *shapes)
        if key not in chosen:
            chosen[key] = copied_axes(module, call, RECORDED)
        copies = chosen[key]
        inputs = []
        for place, array in enumerate(call.inputs):
            one = id(array), id(copies.inputs[place]) if place in copies.inputs else 0
            if one not in made:
                made[one] = held_places(array, copies.inputs.get(place, ()))
            inputs.append(made[one])
        weights = (None if n in copies.inputs else name for n, name in enumerate(call.weights))
        found.append(
            replace(
                call,
                inputs=tuple(inputs),
                outputs=copies.held_outputs(call.outputs),
                weights=tuple(weights),
                copies=copies,
            )
        )
    return found


def copied_axes(
    module: tvm.IRModule,
    call: CallTensors,
    limits: Limits,
) -> CopiedAxes:
    """Choose the axes of a call along which places become copies.

    Axes are taken while they are axes of a tensor, no weight, that is larger than it may be: first
    those with which least is held; those that a weight has last if they should rather stay.

    Parameters
    ----------
    module
        Of the unit.
    call
        Its tensors; the weights are known by their names.
    limits
        ``RECORDED`` or ``EXACT``.

    Returns
    -------
    CopiedAxes
        Without any where nothing is large or nothing is proven, and where the unit only permutes a
        weight, of which ``part_weights`` holds a part on both sides.
    """
    sizes = _Sizes.of(call)
    if sizes.largest <= limits.most_bytes:
        return CopiedAxes()
    axes = list(_axes(module, call))
    if _permutes_weight(call, axes):
        return CopiedAxes()
    chosen: list[CopiedAxis] = []
    for axis in sorted(
        axes, key=lambda axis: (limits.most_on(axis, call), sizes.cut_bytes(axis, limits))
    ):
        is_large = sizes.is_large_on(axis, limits.most_on(axis, call))
        if is_large and axis.count >= _LEAST_HELD * _LEAST_TIMES:
            places = _places(axis, call, sizes.held_places(axis, limits))
            sizes.cut(axis, len(places))
            chosen.append(
                CopiedAxis(
                    places=places, count=axis.count, inputs=axis.inputs, outputs=axis.outputs
                )
            )
    return CopiedAxes(axes=tuple(chosen))


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """A free axis: its length, and the dimensions that it is of inputs and outputs, by position."""

    count: int
    inputs: Mapping[int, int]
    outputs: Mapping[int, int]

    def has_weight(self, call: CallTensors) -> bool:
        return any(call.weights[place] is not None for place in self.inputs)


@dataclass(kw_only=True)
class _Sizes:
    """How many bytes of each tensor are held."""

    inputs: list[int]
    outputs: list[int]
    weights: Sequence[str | None]

    @classmethod
    def of(cls, call: CallTensors) -> _Sizes:
        return cls(
            inputs=[array.nbytes for array in call.inputs],
            outputs=[array.nbytes for array in call.outputs],
            weights=call.weights,
        )

    @property
    def largest(self) -> int:
        """Of the tensors that are no weights."""
        own = [n for n, name in zip(self.inputs, self.weights, strict=True) if name is None]
        return max((*own, *self.outputs), default=0)

    def held_places(self, axis: _Axis, limits: Limits) -> int:
        """How many places of an axis should be held."""
        places = axis.count * limits.held_bytes // max(self._largest_on(axis), 1)
        return min(max(places, _LEAST_HELD), axis.count // _LEAST_TIMES)

    def cut_bytes(self, axis: _Axis, limits: Limits) -> int:
        """How much would be held then of the largest tensor that has the axis."""
        places = self.held_places(axis, limits)
        return self._largest_on(axis) * places // max(axis.count, 1)

    def _largest_on(self, axis: _Axis) -> int:
        return max([self.inputs[n] for n in axis.inputs] + [self.outputs[n] for n in axis.outputs])

    def is_large_on(self, axis: _Axis, most_bytes: int) -> bool:
        """Whether an axis is one of a tensor, no weight, of more than so many bytes."""
        own = [self.inputs[n] for n in axis.inputs if self.weights[n] is None]
        return max(own + [self.outputs[n] for n in axis.outputs]) > most_bytes

    def cut(self, axis: _Axis, held: int) -> None:
        for place in axis.inputs:
            self.inputs[place] = self.inputs[place] * held // axis.count
        for number in axis.outputs:
            self.outputs[number] = self.outputs[number] * held // axis.count


def _axes(module: tvm.IRModule, tensors: CallTensors) -> Iterator[_Axis]:
    """Yield the axes along which equal inputs give equal results."""
    call = kernel_call_of(module, tensors.function)
    if call is None or call.is_runtime_callback:
        return
    if not call.inputs.keys().isdisjoint(call.results):
        return
    if not can_restrict(call.kernel, call.results):
        return
    try:
        _, found = kernel_axes(call)
    except Exception:  # Whatever TVM raises about a kernel that it cannot lower.
        return
    for axis in found:
        dims = [*axis.inputs, *axis.results]
        # A kernel that computes with the number of the place does so for each place by itself.
        if axis.is_counted or len({at.param for at in dims}) < len(dims):
            continue
        if not all(_is_only(call, at.param) for at in axis.inputs):
            continue
        inputs = {call.inputs[at.param]: at.dim for at in axis.inputs}
        outputs = {call.results.index(at.param): at.dim for at in axis.results}
        arrays = [(tensors.inputs[n], dim) for n, dim in inputs.items()]
        arrays += [(tensors.outputs[n], dim) for n, dim in outputs.items()]
        counts = {array.shape[dim] for array, dim in arrays}
        if len(counts) == 1 and all(can_hold_part(array) for array, _ in arrays):
            yield _Axis(count=counts.pop(), inputs=inputs, outputs=outputs)


def _is_only(call: KernelCall, param: int) -> bool:
    """Whether a parameter is given an input of the case that no other parameter is given."""
    return param in call.inputs and list(call.inputs.values()).count(call.inputs[param]) == 1


def _permutes_weight(call: CallTensors, axes: Sequence[_Axis]) -> bool:
    if len(call.inputs) != 1 or len(call.outputs) != 1 or call.weights[0] is None:
        return False
    (weight,), (output,) = call.inputs, call.outputs
    dims = {axis.inputs[0] for axis in axes if 0 in axis.inputs}
    return weight.dtype == output.dtype and len(dims) == weight.ndim == output.ndim


def _places(axis: _Axis, call: CallTensors, held: int) -> Array:
    """Return places that are held: the ends, where results are extreme, and drawn ones; int64."""
    ends = [0, axis.count - 1]
    for number, dim in axis.outputs.items():
        output = call.outputs[number]
        if not output.size:
            continue
        values = as_float64(output) if is_float(output.dtype) else output
        extreme = values.argmax(), values.argmin()
        ends += [int(np.unravel_index(at, output.shape)[dim]) for at in extreme]
    first = np.unique(ends)
    order = np.random.default_rng((_SEED, axis.count)).permutation(axis.count)
    drawn = order[~np.isin(order, first)][: max(held - len(first), 0)]
    return np.sort(np.concatenate([first, drawn])).astype(np.int64)
