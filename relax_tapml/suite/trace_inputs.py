"""Which values of the inputs of a case one value of an output comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.element_flow import ElementFlow, Region
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.kernel_flow.stores import NotAnalyzableError
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite

_AT_MOST = 3


def input_at(
    suite: Suite, unit: str, case: SuiteCase, output: int, index: tuple[int, ...]
) -> str | None:
    """Name the input values that one value of an output is computed from.

    Loads are followed from the store of that value back to the parameters of the PrimFunc. ::

        lv72[0, 3, 0:384] in [-3.2, 47.3], p_bias[811] = 0.25

    Parameters
    ----------
    suite
        From ``open_suite``.
    unit, case
        The case, and the name of its unit.
    output
        Number of the output.
    index
        Of the value in that output.

    Returns
    -------
    str or None
        At most three inputs, those with the most extreme values first. None where they cannot be
        found: the unit is no PrimFunc, or one that calls external code or stores in a way that is
        not followed.

    Raises
    ------
    StoreError
        A file of the suite cannot be read.
    """
    call = kernel_call_of(suite.module(unit), case.function)
    if call is None:
        return None
    arguments = {
        number: suite.tensor(case.inputs[item].tensor) for number, item in call.inputs.items()
    }
    arrays = {**arguments, **call.constants}
    shapes = {number: array.shape for number, array in arrays.items()}
    for item, number in zip(case.outputs, call.results, strict=True):
        shapes[number] = suite.manifest.tensors[item.tensor].shape
    flow = ElementFlow(call.kernel, arrays=arrays, fixed=call.fixed(shapes))
    try:
        sources = flow.sources(call.results[output], index)
    except NotAnalyzableError:
        return None
    found = [
        _InputValues.of(call.names[source.param], arguments[source.param], source.region)
        for source in sources
        if source.param in arguments
    ]
    found.sort(key=lambda item: item.rank, reverse=True)
    return ", ".join(item.text for item in found[:_AT_MOST]) or None


@dataclass(frozen=True, kw_only=True)
class _InputValues:
    """Some elements of an input in words; the higher the rank, the earlier they are listed."""

    text: str
    rank: tuple[bool, float]

    @classmethod
    def of(cls, name: str, array: Array, region: Region) -> _InputValues:
        part = array[tuple(slice(item.low, item.high + 1) for item in region)]
        where = ", ".join(
            str(item.low) if item.is_point else f"{item.low}:{item.high + 1}" for item in region
        )
        is_number = array.dtype.kind in "biu"
        values = part if is_number else part.astype(np.float64)
        if values.size == 1:
            value = values.reshape(())[()]
            text = f"{name}[{where}] = {_number(value)}" if region else f"{name} = {_number(value)}"
        else:
            nans = int(np.isnan(values).sum())
            ordered = values[~np.isnan(values)]
            extent = (
                f"[{_number(ordered.min())}, {_number(ordered.max())}]" if ordered.size else "[]"
            )
            text = f"{name}[{where}] in {extent}{f' and {nans} NaN' if nans else ''}"
        # The magnitude of an index or a mask is of little use.
        magnitude = np.abs(values.astype(np.float64))
        largest = math.inf if np.isnan(magnitude).any() else float(magnitude.max(initial=0.0))
        return cls(text=text, rank=(not is_number, largest))


def _number(value: Any) -> str:
    return str(value) if value.dtype.kind in "biu" else f"{float(value):.6g}"
