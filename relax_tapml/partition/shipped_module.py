"""A module as it is shipped: all of it on one device, the runtime with kernels of that device."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GlobalVar

from relax_tapml.partition.target_kernels import TargetKernels
from relax_tapml.passes.operator_call import is_caller
from relax_tapml.passes.outline_runtime_callbacks import (
    callback_kernels,
    inline_runtime_callbacks,
)
from relax_tapml.passes.submodule import submodule


def shipped(side: tvm.IRModule, kernels: TargetKernels) -> tvm.IRModule:
    """Return the module of a device side with its kernels given to the runtime themselves.

    So an object that calls them, such as a KV cache, lives on the device with them, and the module
    needs no native library.

    Parameters
    ----------
    side
        ``units`` of a ``DeviceSide``, none of which is missing.
    kernels
        Those that the model has for the target. Each is given in the place where the target's own
        module gives it.
    """
    between = callback_kernels(side)
    functions = {}
    for gvar, function in side.functions.items():
        if not is_caller(function) or gvar.name_hint in between:
            functions[gvar] = function
            continue
        inlined = inline_runtime_callbacks(function, side)
        if not inlined.same_as(function):
            inlined = _exchanged(inlined, side, kernels)
        functions[gvar] = inlined
    module = tvm.IRModule(functions, attrs=side.attrs, global_infos=side.global_infos)
    public = [
        gvar.name_hint
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function) and "global_symbol" in (function.attrs or {})
    ]
    return submodule(module, public)


def _exchanged(
    function: relax.Function, side: tvm.IRModule, kernels: TargetKernels
) -> relax.Function:
    if not kernels.exchanged:
        return function
    own = {gvar.name_hint: gvar for gvar in side.functions}

    def placed(gvar: GlobalVar) -> GlobalVar:
        return own[kernels.exchanged.get(gvar.name_hint, gvar.name_hint)]

    return tvm_ffi.structural_map(function, (GlobalVar, placed))
