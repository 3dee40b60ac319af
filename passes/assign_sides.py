"""Mark which operator calls run on the device."""

from __future__ import annotations

from collections.abc import Collection

import tvm
from tvm import relax, tirx
from tvm.ir import PrimType

from relax_tapml._compat import Constant, StringImm

from ._rewriting import with_functions
from .annotate_sites import annotated_calls, annotated_calls_in
from .module_pass import ModulePass
from .operator_call import (
    CallKind,
    has_run_time_shape,
    leaf_types,
    operator_call,
    operator_functions,
)

DEVICE_SITES_ATTR = "relax_tapml.device_sites"
"""Function attribute: ids of the sites of this function that run on the device."""

_MOVABLE = {CallKind.TIR, CallKind.TIR_INPLACE, CallKind.FUNCTION}


@tvm.transform.module_pass(opt_level=0, name="AssignSides")
class AssignSides(ModulePass):
    """Put the sites of a boundary on the device and all others on the host.

    Every function gets the list of its device sites as an attribute, which ``OutlineRegions``
    reads; nothing else changes. A site that cannot move (see ``host_only_sites``) stays on the
    host, also if the boundary names it.

    Precondition: ``AnnotateSites`` has run. ::

        R.func_attr({"num_input": 1})
        # after AssignSides(units={"matmul"})
        R.func_attr({"num_input": 1, "relax_tapml.device_sites": ["main/001/matmul"]})

    With an empty boundary the result has no such attributes; it is the same module if it had none.

    Parameters
    ----------
    units
        Names of units whose sites are all on the device.
    sites
        Ids of further single sites on the device.
    """

    def __init__(self, *, units: Collection[str] = (), sites: Collection[str] = ()) -> None:
        self._units = frozenset(units)
        self._sites = frozenset(sites)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        updated = {}
        for gvar, function in operator_functions(mod):
            sites = [
                site.id
                for site, call in annotated_calls_in(function)
                if (site.unit in self._units or site.id in self._sites)
                and _obstacle(call, mod) is None
            ]
            if sites:
                updated[gvar] = function.with_attr(DEVICE_SITES_ATTR, sites)
            elif function.attrs and DEVICE_SITES_ATTR in function.attrs:
                updated[gvar] = function.without_attr(DEVICE_SITES_ATTR)
        return with_functions(mod, updated)


def host_only_sites(mod: tvm.IRModule) -> dict[str, str]:
    """Return the ids of the sites that cannot run on the device, each with the reason."""
    reasons = {}
    for site, call in annotated_calls(mod):
        reason = _obstacle(call, mod)
        if reason is not None:
            reasons[site.id] = reason
    return reasons


def _obstacle(call: relax.Call, mod: tvm.IRModule) -> str | None:
    found = operator_call(call, mod)
    if found is None:
        return "it is not an operator call any more"
    if found.skip_reason:
        return found.skip_reason
    if found.kind is CallKind.OPERATOR:
        return (
            f"{found.unit} stays in the runtime: its shape is only known at run time, or no tensor"
        )
    if found.kind not in _MOVABLE:
        return f"{found.unit} is a function of the runtime ({found.kind}), not a kernel"
    for arg in found.args:
        if isinstance(arg, Constant | StringImm | relax.ShapeExpr | tirx.IntImm | tirx.FloatImm):
            continue
        for ty in leaf_types(arg.ty):
            if not isinstance(ty, relax.TensorType | relax.ShapeType | PrimType):
                return f"it takes a value that is not a tensor, shape or number ({ty})"
            if has_run_time_shape(ty):
                return f"it takes a tensor whose shape is a value of the program ({ty})"
    for ty in leaf_types(call.ty):
        if not isinstance(ty, relax.TensorType):
            return f"it returns a value that is not a tensor ({ty})"
        if has_run_time_shape(ty):
            return f"it returns a tensor whose shape is a value of the program ({ty})"
    return None
