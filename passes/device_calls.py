"""The device calls of a partitioned module, and the values that are copied for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import tvm
import tvm_ffi
from tvm import relax, tirx

from relax_tapml.crossings import Crossing, DeviceCall

from ._device_protocol import DOWNLOAD, PARAMETER, REGION_ATTR, RUN, UPLOAD
from .operator_call import operator_functions
from .site import sites_of
from .value_leaves import bindings_in

_NUMBER = re.compile(r"T\.int64\((\d+)\)")  # As TVM prints a number.


def device_calls(mod: tvm.IRModule) -> tuple[DeviceCall, ...]:
    """Return the device calls of a module after ``OutlineRegions``, in program order.

    Branches come before what follows them, the true one first, each with its own copies.
    """
    return tuple(
        call
        for gvar, function in operator_functions(mod)
        if not (function.attrs and REGION_ATTR in function.attrs)
        for call in _calls_of(gvar.name_hint, function, mod)
    )


def _calls_of(name: str, function: relax.Function, mod: tvm.IRModule) -> Iterator[DeviceCall]:
    sent: dict[relax.Var, relax.Call] = {}
    runs: dict[relax.Var, relax.Call] = {}
    made_by: dict[relax.Var, relax.Var] = {}
    downloads: dict[relax.Var, list[Crossing]] = {}
    for binding in bindings_in(function.body):
        var, value = binding.var, binding.value
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in runs:
            made_by[var] = value.tuple_value
        callee = _external(value)
        if callee in (UPLOAD, PARAMETER):
            sent[var] = value
        elif callee == RUN:
            runs[var] = value
            downloads[var] = []
        elif callee == DOWNLOAD:
            downloads[made_by[value.args[0]]].append(_crossing(var.name, value.ty))
    for var, run in runs.items():
        region = str(run.args[0].value)
        uploads, parameters = [], []
        for param, arg in zip(mod[region].params, run.args[1:], strict=True):
            # A value that an earlier call uploaded is not copied again.
            copy = sent.pop(arg, None) if isinstance(arg, relax.Var) else None
            if copy is None:
                continue
            what = copy.args[0]
            if _external(copy) == UPLOAD:
                uploads.append(_crossing(what.name, param.ty))
            else:
                parameters.append(_crossing(str(what.value), param.ty))
        yield DeviceCall(
            function=name,
            region=region,
            sites=tuple(site.id for site in sites_of(run)),
            uploads=tuple(uploads),
            downloads=tuple(downloads[var]),
            parameters=tuple(parameters),
        )


def _external(value: relax.Expr) -> str:
    if isinstance(value, relax.Call) and isinstance(value.op, relax.ExternFunc):
        return str(value.op.global_symbol)
    return ""


def _crossing(name: str, ty: relax.TensorType) -> Crossing:
    extents = None if ty.shape is None else list(ty.shape.values)
    shape = "?" if extents is None else _NUMBER.sub(r"\1", ", ".join(map(str, extents)))
    size: int | None = None
    if extents is not None and all(isinstance(extent, tirx.IntImm) for extent in extents):
        kind = tvm_ffi.dtype(ty.dtype)
        size = -(-math.prod(map(int, extents)) * kind.bits * kind.lanes // 8)
    return Crossing(name=name, type=f"{ty.dtype}[{shape}]", size_bytes=size)
