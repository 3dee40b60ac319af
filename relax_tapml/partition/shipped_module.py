"""A module as it is shipped: all of it on one device, the runtime with kernels of that device."""

from __future__ import annotations

import tvm
from tvm import relax

from relax_tapml.passes.operator_call import is_caller
from relax_tapml.passes.outline_runtime_callbacks import (
    callback_kernels,
    inline_runtime_callbacks,
)
from relax_tapml.passes.submodule import submodule


def shipped(side: tvm.IRModule) -> tvm.IRModule:
    """Return the module of a device side with its kernels given to the runtime themselves.

    So an object that calls them, such as a KV cache, lives on the device with them, and the module
    needs no native library.

    Parameters
    ----------
    side
        ``units`` of a ``DeviceSide``, none of which is missing.
    """
    between = callback_kernels(side)
    functions = {
        gvar: inline_runtime_callbacks(function, side)
        if is_caller(function) and gvar.name_hint not in between
        else function
        for gvar, function in side.functions.items()
    }
    module = tvm.IRModule(functions, attrs=side.attrs, global_infos=side.global_infos)
    public = [
        gvar.name_hint
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function) and "global_symbol" in (function.attrs or {})
    ]
    return submodule(module, public)
