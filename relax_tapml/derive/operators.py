"""Tolerances of operators that each side lowers in its own way: sort, top-k, running sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from relax_tapml.arrays import Array, as_float64, is_float, is_integer
from relax_tapml.compare.tolerance import (
    ElementTolerance,
    EqualTolerance,
    IndexTolerance,
    Tolerance,
)
from relax_tapml.derive._partial_sums import INDEPENDENT, MEASURED
from relax_tapml.derive._precision import moves, unit_roundoff
from relax_tapml.derive.error_bounds import output_error_bounds, rounded_up

_TIES = "indices may differ where the values they choose are equal"
_CHOOSES = "the operator chooses values and changes none, so they must be equal"


def operator_tolerances(
    call: relax.Call, inputs: Sequence[Array], oracles: Sequence[Array]
) -> list[Tolerance] | None:
    """Return a tolerance for each output of an operator; None if the operator is not known here.

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
        IndexTolerance(values=inputs[0], axis=axis, origin=_TIES)
        if is_one
        else EqualTolerance(origin=_CHOOSES)
        for is_one in is_index
    ]


def _running_sum(call: relax.Call, values: Array, oracle: Array) -> list[Tolerance] | None:
    if is_integer(oracle.dtype):
        return [EqualTolerance(origin=f"{oracle.dtype} values must be equal")]
    if not is_float(values.dtype) or call.attrs.exclusive:
        return None
    axis = 0 if call.attrs.axis is None else int(call.attrs.axis)
    wide, moved = as_float64(values), as_float64(moves(values))
    if call.attrs.axis is None:
        wide, moved = wide.reshape(-1), moved.reshape(-1)
    length = wide.shape[axis]
    unit = unit_roundoff(oracle.dtype.name)
    shape = [length if n == axis % wide.ndim else 1 for n in range(wide.ndim)]
    count = np.arange(1, length + 1).reshape(shape)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.cumsum(wide, axis=axis)
        most = count * unit * np.cumsum(np.abs(wide), axis=axis)
        # A scan in blocks also adds up from within: such sums differ by two of the running ones.
        largest = 2 * np.maximum.accumulate(np.abs(total), axis=axis)
        walk = unit * np.sqrt(np.cumsum(largest**2, axis=axis))
        own = as_float64(np.cumsum(values.reshape(wide.shape), axis=axis, dtype=oracle.dtype))
        measured = np.maximum.accumulate(np.abs(own - total), axis=axis)
        error = np.fmin(most, INDEPENDENT * walk + MEASURED * measured)
        error = error + np.cumsum(moved, axis=axis)
    bound, _ = output_error_bounds(total, error, oracle)
    return [
        ElementTolerance(
            bound=rounded_up(bound, oracle.dtype),
            origin="float64 evaluation with the errors of: running sums, by their partial sums",
        )
    ]
