"""Cases that nobody has seen: a recorded call with inputs that a drawn seed makes of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.carve.probe._floats import shuffled, times
from relax_tapml.carve.probe._recorded_call import RecordedCall
from relax_tapml.carve.probe._whole_numbers import whole_numbers
from relax_tapml.carve.probe.unit_probes import is_accurate
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance

_LEAST_FACTOR = 0.25  # The largest is 1: values stay within what was recorded.
# The seeds below are those of a suite's own probes.
_FIRST_SEED = 2


class DrawnProbes:
    """Draws inputs for one recorded call, and evaluates the unit for them.

    Floats and bool change places and floats become smaller, whole numbers are permuted or drawn
    from the recorded range, each only as far as the kernel provably stays inside its tensors.
    Weights change, too: a kernel takes them as arguments.

    Parameters
    ----------
    unit
        Evaluates the unit.
    recorded
        The call, with whole tensors.

    Attributes
    ----------
    refused
        Why the call cannot be evaluated with other inputs; empty if it can.
    """

    def __init__(self, unit: UnitTolerances, recorded: CallTensors) -> None:
        self._unit = unit
        self._tensors = recorded
        call = unit.evaluable(recorded.function, recorded.inputs, recorded.outputs)
        self.refused = "" if call is not None else unit.unevaluated
        if call is None:
            return
        if call.is_runtime_callback:
            self.refused = "the runtime decides its arguments together"
        self._recorded = RecordedCall(
            call=call,
            inputs=recorded.inputs,
            outputs=recorded.outputs,
            fixed=frozenset(),
            constant=frozenset(),
        )

    def draw(self, seed: int) -> tuple[CallTensors, list[Tolerance]] | None:
        """Return another call with its outputs and their tolerances.

        Parameters
        ----------
        seed
            At least 0; another one gives other inputs.

        Returns
        -------
        tuple or None
            None where no other inputs are known that the unit has accurate results for.
        """
        if self.refused:
            return None
        for inputs in self._candidates(seed + _FIRST_SEED):
            found = self._unit.evaluated(self._tensors.function, inputs, self._tensors.outputs)
            if found is None:
                continue
            outputs, tolerances = found
            if all(map(is_accurate, outputs, tolerances, self._tensors.outputs)):
                call = CallTensors(
                    function=self._tensors.function,
                    inputs=inputs,
                    outputs=tuple(outputs),
                    weights=(None,) * len(inputs),
                )
                return call, tolerances
        return None

    def _candidates(self, seed: int) -> Iterator[tuple[Array, ...]]:
        """Yield inputs that differ from the recorded ones, those that differ most first."""
        recorded = self._recorded
        moved = shuffled(recorded, seed)
        factor = float(np.random.default_rng([seed, 6]).uniform(_LEAST_FACTOR, 1.0))
        smaller = {n: times(moved[n], factor) for n in recorded.floats}
        whole = [arrays for arrays, _ in whole_numbers(recorded, seed)]
        for numbers in (*whole, {}):
            for changed in ({**moved, **smaller}, moved):
                inputs = self._inputs({**changed, **numbers})
                if self._is_other(inputs) and recorded.is_inside(inputs):
                    yield inputs

    def _inputs(self, changed: dict[int, Array]) -> tuple[Array, ...]:
        return tuple(changed.get(n, array) for n, array in enumerate(self._tensors.inputs))

    def _is_other(self, inputs: tuple[Array, ...]) -> bool:
        pairs = zip(inputs, self._tensors.inputs, strict=True)
        return any(made.tobytes() != array.tobytes() for made, array in pairs)
