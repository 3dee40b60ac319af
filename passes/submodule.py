"""Parts of a module that stand on their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm.ir import GlobalVar


def submodule(module: tvm.IRModule, names: Iterable[str]) -> tvm.IRModule:
    """Return the named functions and everything they call, directly or not.

    Raises
    ------
    ValueError
        The module has no function of one of the names.
    """
    pending = [module.get_global_var(name) for name in names]
    functions: dict[GlobalVar, tvm.ir.BaseFunc] = {}
    while pending:
        gvar = pending.pop()
        if gvar not in functions:
            functions[gvar] = module[gvar]
            tvm_ffi.structural_walk(module[gvar], (GlobalVar, pending.append))
    # In the order of `module`, whatever the order of calls.
    ordered = {gvar: module[gvar] for gvar in module.functions if gvar in functions}
    return tvm.IRModule(ordered, attrs=module.attrs, global_infos=module.global_infos)


def retarget_calls(function: Any, renamed: Mapping[str, GlobalVar]) -> Any:
    """Return a function that calls other functions, given by the names of its present callees."""
    return tvm_ffi.structural_map(
        function, (GlobalVar, lambda gvar: renamed.get(gvar.name_hint, gvar))
    )


def is_same(a: tvm.ir.BaseFunc, b: tvm.ir.BaseFunc) -> bool:
    """Return whether two functions are equal that may come from different files."""
    # Some kernels use buffers that they do not define, which are new objects in each file.
    return bool(tvm_ffi.structural_equal(a, b, map_free_vars=True))
