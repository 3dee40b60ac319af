"""Schedules for kernels that their target cannot run without one."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import dlight
from tvm_ffi import structural_walk
from tvm_ffi.structural import VisitInterrupt

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error


def schedule(module: Any, target: Any) -> Any:
    """Schedule the PrimFuncs of a module where the target requires it.

    A GPU kernel must bind its loops to threads, so those that do not get dlight's default GPU
    schedules, the ones of ``relax.get_default_pipeline``. PrimFuncs marked ``tirx.is_scheduled``
    or already bound to threads are not changed; on a CPU nothing is.

    Returns
    -------
    IRModule
        The same module where nothing is to be scheduled, otherwise a new one.

    Raises
    ------
    LoweringError
        dlight raised; the message names the PrimFunc.
    """
    if "gpu" not in target.keys:
        return module
    rules = dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )
    scheduled = {}
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc) or _is_scheduled(function):
            continue
        try:
            with target:
                scheduled[name] = rules(tvm.IRModule({name: function}))[name]
        except Exception as error:
            raise_machine_error(error, f"scheduling {name.name_hint}")
            raise LoweringError(
                f"schedule: dlight has no {target.kind.name} schedule for PrimFunc "
                f"{name.name_hint}: {error}. Schedule it in the device pipeline and mark it "
                "tirx.is_scheduled"
            ) from error
    if not scheduled:
        return module
    result = module.clone()
    for name, function in scheduled.items():
        result.update_func(name, function)
    return result


def _is_scheduled(function: Any) -> bool:
    if function.attrs and function.attrs.get("tirx.is_scheduled", False):
        return True

    def check(node: Any) -> Any:
        binds = (isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING) or (
            isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent"
        )
        return VisitInterrupt() if binds else None

    return structural_walk(function.body, (tirx.Stmt, check), order="pre") is not None
