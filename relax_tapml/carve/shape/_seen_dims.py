"""The values that the symbolic dimensions of a unit had in the recorded calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import relax, tirx

from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, TensorValue
from relax_tapml.carve.select.call_work import called_kernel
from relax_tapml.carve.shape._symbolic_call import SymbolicCall, SymbolicFunction
from relax_tapml.kernel_flow.stores import NotAnalyzableError
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.passes.site import Site


@dataclass(frozen=True, kw_only=True)
class SeenDim:
    """A symbolic dimension.

    Parameters
    ----------
    name
        For reports: ``main: n (axis 0 of x)``. Where the model does not state the dimensions, as
        of the kernels of a KV cache, that of the kernel: ``B (axis 0 of Q)``.
    variable
        The variable.
    values
        Those it had, in ascending order.
    """

    name: str
    variable: tirx.Var
    values: tuple[int, ...]


def seen_dims(
    lowered: tvm.IRModule,
    calls: Sequence[tuple[Site, relax.Call]],
    store: CaptureStore,
    functions: Mapping[str, SymbolicFunction],
) -> list[SeenDim]:
    """Return the symbolic dimensions of the calls of one unit, and the values that they had.

    Parameters
    ----------
    lowered
        The annotated module that the calls were recorded from.
    calls
        Of one unit.
    store
        Where they were recorded.
    functions
        The Relax functions that they are in, by name.
    """
    names: dict[tirx.Var, str] = {}
    values: dict[tirx.Var, set[int]] = {}
    for site, call in calls:
        shapes = set()
        for record in store.calls(site=site.id):
            key = tuple(
                value.shape if isinstance(value, TensorValue) else repr(value)
                for value in (*record.inputs, *(record.outputs or ()))
            )
            if record.outputs is None or key in shapes:
                continue
            shapes.add(key)
            for variable, size, name in _dims(lowered, call, record, functions[site.function]):
                names.setdefault(variable, name)
                values.setdefault(variable, set()).add(size)
    return [
        SeenDim(name=name, variable=variable, values=tuple(sorted(values[variable])))
        for variable, name in names.items()
    ]


def _dims(
    lowered: tvm.IRModule, call: relax.Call, record: CallRecord, function: SymbolicFunction
) -> Iterator[tuple[tirx.Var, int, str]]:
    try:
        sizes = SymbolicCall.of(lowered, call, record).sizes
    except NotAnalyzableError:
        yield from _kernel_dims(lowered, call, record)
        return
    for variable, size in sizes.items():
        yield variable, size, f"{record.function}: {function.name(variable)}"


def _kernel_dims(
    lowered: tvm.IRModule, call: relax.Call, record: CallRecord
) -> Iterator[tuple[tirx.Var, int, str]]:
    operator = operator_call(call, lowered)
    gvar = None if operator is None else called_kernel(lowered, call, operator)
    if gvar is None:
        return
    for param, value in zip(lowered[gvar].params, record.inputs, strict=False):
        if isinstance(value, TensorValue):
            extents = zip(getattr(param.ty, "shape", ()), value.shape, strict=False)
            for axis, (extent, size) in enumerate(extents):
                if isinstance(extent, tirx.Var):
                    yield extent, size, f"{extent.name} (axis {axis} of {param.name})"
