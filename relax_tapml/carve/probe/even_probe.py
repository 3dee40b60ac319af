"""A probe of attention in which every token counts about the same."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, is_float
from relax_tapml.carve.probe.unit_probes import Probe, is_accurate
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.suite.open_suite import called

EVEN = "even"
_QUIETER = 64.0
_EXPONENTIALS = {"exp", "exp2"}


def even_probe(unit: UnitTolerances, recorded: CallTensors, base: str) -> Probe | None:
    """Return a probe of a kernel that the runtime calls, with smaller floats; None of others.

    The weights of softmax differ by many orders of magnitude: a few tokens of a recorded call
    decide its result, and a kernel that leaves another one out, or reads one too many, is within
    the tolerance. Where queries and keys are small, all weights are about the same. Page tables,
    lengths and positions stay as the runtime made them, since they belong together.

    Parameters
    ----------
    unit
        Evaluates the unit.
    recorded
        The call.
    base
        Name of the recorded case.
    """
    if unit.callback(recorded.function) is None or not _EXPONENTIALS & called(unit.module):
        return None
    inputs = tuple(_quieter(array) if is_float(array.dtype) else array for array in recorded.inputs)
    evaluated = unit.evaluated_callback(recorded.function, inputs, recorded.outputs)
    if evaluated is None or not all(map(is_accurate, *evaluated, recorded.outputs)):
        return None
    outputs, tolerances = evaluated
    return Probe(
        name=EVEN,
        inputs=inputs,
        outputs=tuple(outputs),
        tolerances=tuple(tolerances),
        copies=recorded.copies,
        reason=f"probe: inputs of {base}, floats divided by {_QUIETER:g}, so that all tokens count",
    )


def _quieter(array: Array) -> Array:
    # A power of two: nothing is rounded, apart from what becomes subnormal.
    return (array.astype(np.float32) / np.float32(_QUIETER)).astype(array.dtype)
