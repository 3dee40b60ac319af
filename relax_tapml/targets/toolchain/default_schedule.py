"""Schedules for kernels that have none."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import dlight
from tvm_ffi import structural_walk
from tvm_ffi.structural import VisitInterrupt

from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu
from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.targets.toolchain.keep_guards import keep_guards
from relax_tapml.targets.toolchain.trusted_target import is_trusted


def schedule(module: Any, target: Any) -> Any:
    """Schedule the PrimFuncs of a module that are not scheduled yet.

    A GPU kernel must bind its loops to threads, so those that do not get dlight's default GPU
    schedules, the ones of ``relax.get_default_pipeline``. On a CPU, kernels that run long get the
    schedules of ``schedule_for_cpu``; in WebAssembly none does, which has no threads. PrimFuncs
    marked ``tirx.is_scheduled`` or already bound to threads are not changed. Those bound only to
    blocks of threads, as in MLC-LLM's mixtures of experts, get one where dlight has it. For a
    trusted GPU, all then get the guards that TVM would drop (``keep_guards``).

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
        is_cpu = target.kind.name == "llvm" and "wasm" not in str(target.attrs.get("mtriple", ""))
        return _replaced(module, _scheduled_for_cpu(module, target)) if is_cpu else module
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
            if _binds(function, "blockIdx"):
                continue
            raise LoweringError(
                f"schedule: dlight has no {target.kind.name} schedule for PrimFunc "
                f"{name.name_hint}: {_reason(error)}. Schedule it in the device pipeline and mark "
                "it tirx.is_scheduled"
            ) from error
    made = _replaced(module, scheduled)
    return _replaced(made, _guarded(made)) if is_trusted(target) else made


def _reason(error: Exception) -> str:
    """Return the message of an error, or the line of code that raised one without a message."""
    if str(error).strip():
        return str(error)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(at.filename).name}, line {at.lineno}: {at.line}"


def _guarded(module: Any) -> dict[Any, Any]:
    found = {}
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            guarded = keep_guards(function)
            if not guarded.same_as(function):
                found[name] = guarded
    return found


def _scheduled_for_cpu(module: Any, target: Any) -> dict[Any, Any]:
    scheduled = {}
    for name, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        made = schedule_for_cpu(function, target)
        if not made.same_as(function):
            scheduled[name] = made
    return scheduled


def _replaced(module: Any, functions: Mapping[Any, Any]) -> Any:
    if not functions:
        return module
    result = module.clone()
    for name, function in functions.items():
        result.update_func(name, function)
    return result


def _is_scheduled(function: Any) -> bool:
    if function.attrs and function.attrs.get("tirx.is_scheduled", False):
        return True

    return _binds(function, "threadIdx") or _binds(function, "vthread")


def _binds(function: Any, tag: str) -> bool:
    """Whether a loop of a PrimFunc is bound to threads, or blocks, whose name begins so."""

    def check(node: Any) -> Any:
        if isinstance(node, tirx.For) and node.kind == tirx.ForKind.THREAD_BINDING:
            bound = node.thread_binding
        elif isinstance(node, tirx.AttrStmt) and node.attr_key == "thread_extent":
            bound = node.node
        else:
            return None
        return VisitInterrupt() if str(bound.thread_tag).startswith(tag) else None

    return structural_walk(function.body, (tirx.Stmt, check), order="pre") is not None
