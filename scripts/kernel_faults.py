"""Passes that make the kernel of one unit wrong by what it stores.

With this folder on ``PYTHONPATH``, ``--device-pipeline kernel_faults:UNIT_wild`` makes the kernel
of a unit store far away, ``kernel_faults:UNIT_behind`` one row further on, and
``kernel_faults:UNIT_off`` values that are a little off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

_ROWS = {"wild": 1 << 40, "behind": 1}


def __getattr__(name: str) -> tvm.transform.Pass:
    unit, _, fault = name.rpartition("_")
    if unit and fault == "off":
        return breaks(unit, a_little_off)
    if not unit or fault not in _ROWS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return breaks(unit, rows_behind(_ROWS[fault]))


def breaks(unit: str, fault: Callable[[Any], Any]) -> tvm.transform.Pass:
    """Return a pass that puts ``fault`` of each store to an argument of ``unit`` in its place.

    The pass raises ``ValueError`` if that changes nothing.
    """

    @tvm.transform.module_pass(opt_level=0, name=f"Breaks_{unit}")
    def change(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        gvar = module.get_global_var(unit)
        kernel = module[gvar]
        arguments = {parameter.name for parameter in kernel.params}
        broken = tvm_ffi.structural_map(
            kernel, (tirx.BufferStore, lambda s: fault(s) if s.buffer.name in arguments else s)
        )
        if tvm_ffi.structural_equal(broken, kernel):
            raise ValueError(f"{unit} stores nothing that could be made wrong")
        out = module.clone()
        out.update_func(gvar, broken)
        return out

    return change


def rows_behind(rows: int) -> Callable[[Any], Any]:
    """Store that many rows further on."""

    def fault(store: Any) -> Any:
        first, *rest = store.indices
        far = tirx.Cast("int64", first) + tirx.const(rows, "int64")
        return tirx.BufferStore(store.buffer, store.value, [far, *rest])

    return fault


def a_little_off(store: Any) -> Any:
    """Store 2 % more and 0.02; the next integer; the other truth."""
    value, ty = store.value, store.value.ty
    if "float" in str(ty):
        value = value * tirx.const(1.02, ty) + tirx.const(0.02, ty)
    elif str(ty) == "bool":
        value = tirx.Not(value)
    else:
        value = value + tirx.const(1, ty)
    return tirx.BufferStore(store.buffer, value, store.indices)
