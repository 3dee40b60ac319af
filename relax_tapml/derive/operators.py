"""Tolerances of operators that each side lowers in its own way: sort, top-k, running sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from relax_tapml.arrays import Array, as_float64, is_float, is_integer
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._chosen_index import TIES
from relax_tapml.derive._partial_sums import INDEPENDENT, MEASURED
from relax_tapml.derive._precision import input_perturbation, unit_roundoff
from relax_tapml.derive.error_bounds import bound_tolerance, equal_values, output_error_bounds

_CHOOSES = "the operator chooses values and changes none, so they must be equal"


def operator_tolerances(
    call: relax.Call, inputs: Sequence[Array], oracles: Sequence[Array]
) -> list[Tolerance] | None:
    """Return a tolerance for each output of an operator; None for any other operator.

    Parameters
    ----------
    call
        Of ``relax.sort``, ``argsort``, ``topk`` or ``cumsum``; its first argument is the first
        input.
    inputs, oracles
        Its tensors, in order.
    """
    name = call.op.name
    if name == "relax.cumsum":
        return _running_sum(call, inputs[0], oracles[0])
    if name not in ("relax.sort", "relax.argsort", "relax.topk"):
        return None
    is_index = {"relax.sort": [False], "relax.argsort": [True]}.get(name)
    if is_index is None:
        is_index = {"both": [False, True], "values": [False], "indices": [True]}[
            call.attrs.ret_type
        ]
    axis = int(call.attrs.axis)
    return [
        IndexTolerance(values=inputs[0], axis=axis, origin=TIES)
        if is_one
        else EqualTolerance(origin=_CHOOSES)
        for is_one in is_index
    ]


def _running_sum(call: relax.Call, values: Array, oracle: Array) -> list[Tolerance] | None:
    if is_integer(oracle.dtype):
        return [equal_values(oracle.dtype)]
    if not is_float(values.dtype) or call.attrs.exclusive:
        return None
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis)
    wide, perturbation = as_float64(values), as_float64(input_perturbation(values))
    if call.attrs.axis is None:
        wide, perturbation = wide.reshape(-1), perturbation.reshape(-1)
    length = wide.shape[axis]
    unit = unit_roundoff(oracle.dtype.name)
    shape = [length if n == axis % wide.ndim else 1 for n in range(wide.ndim)]
    count = np.arange(1, length + 1).reshape(shape)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.cumsum(wide, axis=axis)
        most = count * unit * np.cumsum(np.abs(wide), axis=axis)
        # A scan in blocks also adds up partial ranges: each is the difference of two running sums.
        largest = 2 * np.maximum.accumulate(np.abs(total), axis=axis)
        walk = unit * np.sqrt(np.cumsum(largest**2, axis=axis))
        own = as_float64(np.cumsum(values.reshape(wide.shape), axis=axis, dtype=oracle.dtype))
        measured = np.maximum.accumulate(np.abs(own - total), axis=axis)
        error = np.fmin(most, INDEPENDENT * walk + MEASURED * measured)
        error = error + np.cumsum(perturbation, axis=axis)
    origin = "float64 evaluation with the errors of: running sums, by their partial sums"
    return [bound_tolerance(*output_error_bounds(total, error, oracle), oracle, origin)]
