"""Cases with other extents of symbolic dimensions than the run had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tvm

from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.capture.values import ParameterValue, TensorValue
from relax_tapml.carve.select.call_facts import Recorded, tensors
from relax_tapml.carve.shape._shape_plans import ShapePlan
from relax_tapml.carve.shape._symbolic_call import Sizes
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.kernel_flow.accesses import Accesses
from relax_tapml.kernel_flow.iterations import iterations
from relax_tapml.kernel_flow.kernel_call import KernelCall, kernel_call_of
from relax_tapml.kernel_flow.stores import NotAnalyzableError

# A probe may do twice what the recorded call did, or so much as takes some milliseconds.
_MOST_ITERATIONS = 2e6
_MOST_VALUES = 1 << 18
# So many of the outputs must be infinite or have an error; half of the errors must be small.
_JUDGED = 0.9
_ACCURATE = 1e-2


@dataclass(frozen=True, kw_only=True)
class ShapeProbe:
    """A call that was not recorded, with other extents.

    Parameters
    ----------
    sizes
        As in its plan.
    inputs, outputs, tolerances
        As of a ``Probe``: outputs are the float64 evaluation of the unit.
    """

    sizes: Sizes
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    tolerances: tuple[Tolerance, ...]


class ShapeProber:
    """Makes probes of one recorded call from plans.

    Parameters
    ----------
    unit, module
        What evaluates the unit, and the module it is of.
    function
        Of the module: the one that does the recorded call.
    inputs, outputs
        Tensors of the recorded call, in order.

    Raises
    ------
    NotAnalyzableError
        The unit cannot be evaluated for other shapes, for the reason in the message.
    """

    def __init__(
        self,
        unit: UnitTolerances,
        module: tvm.IRModule,
        function: str,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
    ) -> None:
        call = kernel_call_of(module, function)
        if call is None:
            raise NotAnalyzableError("the unit is no PrimFunc")
        if call.is_runtime_callback:
            raise NotAnalyzableError("the runtime decides its arguments together")
        if set(call.results) & set(call.inputs):
            raise NotAnalyzableError("it writes to its arguments")
        if not all(array.size for array in inputs):
            raise NotAnalyzableError("a recorded tensor is empty")
        self._unit = unit
        self._module = module
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._accesses = Accesses(call.kernel)
        self._most = max(2 * _iterations(call, inputs, outputs), _MOST_ITERATIONS)
        total = _values_of(array.shape for array in (*inputs, *outputs))
        self._most_values = max(2 * total, _MOST_VALUES)

    def probe(self, plan: ShapePlan, function: str, seed: int) -> ShapeProbe:
        """Make a probe.

        Parameters
        ----------
        plan
            The sizes.
        function
            Of the module: the one that does the call with these sizes.
        seed
            Of what is drawn from the recorded values.

        Raises
        ------
        NotAnalyzableError
            It would take long, an index might be outside, or the result would be inaccurate.
        """
        call = kernel_call_of(self._module, function)
        if call is None:
            raise NotAnalyzableError("the unit is no PrimFunc")
        given = tensors(plan.record.inputs)
        shapes = _shapes_of(given, self._inputs)
        returned = _shapes_of(tensors(plan.record.outputs), self._outputs)
        dtypes = [array.dtype for array in self._outputs]
        like = [np.zeros(*both) for both in zip(returned, dtypes, strict=True)]
        is_large = _values_of([*shapes, *returned]) > self._most_values
        if is_large or iterations(call, shapes, returned) > self._most:
            raise NotAnalyzableError("it would take long")
        sizes = {
            variable: known.low
            for variable, known in call.fixed(_by_number(call, shapes, returned)).items()
        }
        limits = self._accesses.index_limits(sizes)
        reason = ""
        for is_sampled in (True, False):
            inputs = list(self._inputs)
            for number, place in call.inputs.items():
                if not isinstance(given[place], ParameterValue):
                    generator = np.random.default_rng([seed, place]) if is_sampled else None
                    inputs[place] = _resized(
                        inputs[place], shapes[place], limits.get(number), generator
                    )
            arrays = {number: inputs[place] for number, place in call.inputs.items()}
            if not self._accesses.are_within(sizes, {**arrays, **call.constants}):
                reason = "it is not proven that every index is within its tensor"
                continue
            evaluated = self._unit.evaluated(function, inputs, like)
            if evaluated is None:
                raise NotAnalyzableError("it cannot be evaluated in float64")
            results, tolerances = evaluated
            if all(map(_is_judged_well, results, tolerances)):
                return ShapeProbe(
                    sizes=plan.sizes,
                    inputs=tuple(inputs),
                    outputs=tuple(results),
                    tolerances=tuple(tolerances),
                )
            reason = "its results would be inaccurate"
        raise NotAnalyzableError(reason)


def _resized(
    array: Array, shape: tuple[int, ...], limit: int | None, generator: np.random.Generator | None
) -> Array:
    """Return values of a recorded tensor in another shape.

    They are drawn at random, or, without a generator, repeated along the axes, which keeps together
    what belongs together, as in a mask. Indices stay below the limit.
    """
    is_index = limit is not None and array.dtype.kind in "iu"
    limit = limit or 1
    if shape == array.shape and not (is_index and array.max(initial=0) >= limit):
        return array
    if generator is not None:
        values = array.reshape(-1)
        if is_index:
            values = values[(values >= 0) & (values < limit)]
            values = values if values.size else np.arange(limit, dtype=array.dtype)
        return values[generator.integers(0, values.size, math.prod(shape))].reshape(shape)
    places = [np.arange(new) % old for new, old in zip(shape, array.shape, strict=True)]
    tiled = np.ascontiguousarray(array[np.ix_(*places)])
    return np.minimum(tiled, limit - 1).astype(array.dtype) if is_index else tiled


def _shapes_of(values: Sequence[Recorded], arrays: Sequence[Array]) -> list[tuple[int, ...]]:
    """Return the shapes that tensors have in a plan; weights have their own."""
    return [
        value.shape if isinstance(value, TensorValue) else array.shape
        for value, array in zip(values, arrays, strict=True)
    ]


def _by_number(
    call: KernelCall, shapes: Sequence[tuple[int, ...]], returned: Sequence[tuple[int, ...]]
) -> dict[int, tuple[int, ...]]:
    found = {number: shapes[place] for number, place in call.inputs.items()}
    found.update(zip(call.results, returned, strict=True))
    return found


def _iterations(call: KernelCall, inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    return iterations(call, [a.shape for a in inputs], [a.shape for a in outputs])


def _values_of(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes))


def _is_judged_well(result: Array, tolerance: Tolerance) -> bool:
    """Return whether most values have a bound that is small against the results.

    Infinities are compared by where they are.
    """
    if not is_float(result.dtype):
        return True
    wide, allowed = as_float64(result), tolerance.allowed(result)
    is_finite = np.isfinite(wide)
    is_judged = np.isinf(wide) | (is_finite & np.isfinite(allowed))
    if is_judged.mean() < _JUDGED or not is_finite.any():
        return False
    bounds = allowed[is_judged & is_finite]
    return bool(np.median(bounds) <= _ACCURATE * np.abs(wide[is_finite]).max())
