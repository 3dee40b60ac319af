"""The schedules that TVM has for GPUs, run in serial loops on the CPU."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import dlight

from mutation.variants.scheduling import Made, Maker, alone

_TARGET = {
    "kind": "cuda",
    "arch": "sm_80",
    "max_num_threads": 1024,
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}
RULES = {
    "matmul": dlight.gpu.Matmul,
    "GEMV": dlight.gpu.GEMV,
    "reduction": dlight.gpu.Reduction,
    "general reduction": dlight.gpu.GeneralReduction,
    "transpose": dlight.gpu.Transpose,
    "RMS norm": dlight.gpu.RMSNorm,
    "fallback": dlight.gpu.Fallback,
}


def applied(rule: Any, function: tirx.PrimFunc, target: Any) -> tirx.PrimFunc | None:
    """Return the function as a rule schedules it for a target; None if the rule does not fit."""
    module = alone(function)
    try:
        with tvm.target.Target(target):
            made = dlight.ApplyDefaultSchedule(rule())(module)["main"]
    except Exception:
        return None
    return None if tvm_ffi.structural_equal(made.body, function.body) else made


def _serial(function: tirx.PrimFunc, _: int) -> Made:
    for name, rule in RULES.items():
        made = applied(rule, function, _TARGET)
        if made is not None:
            body = without_threads(made.body)
            serial = tirx.PrimFunc(made.params, body, made.ret_type, function.attrs)
            yield f"GPU schedule {name}", serial


def without_threads(body: Any) -> Any:
    """Return a statement whose threads are serial loops and whose memory is all of one kind.

    A schedule is a tree of loops that computes the same in whatever order the threads run; only
    the storage of what they share must be large enough for all, as it is before lowering.
    """
    plain: dict[Any, Any] = {}

    def buffer(var: Any, mutator: Any) -> Any:
        if not tirx.is_buffer_var(var) or var.scope() in ("", "global"):
            return mutator.default_mutate(var)
        if var not in plain:
            plain[var] = tirx.decl_buffer(var.shape, str(var.dtype), var.name)
        return plain[var]

    def loop(node: Any, mutator: Any) -> Any:
        node = mutator.default_mutate(node)
        if node.kind != tirx.ForKind.THREAD_BINDING:
            return node
        return tirx.For(node.loop_var, node.min, node.extent, tirx.ForKind.SERIAL, node.body)

    return tvm_ffi.structural_mutate(body, [(tirx.For, loop), (tirx.Var, buffer)])


MAKERS: dict[str, Maker] = {"GPU schedule": _serial}
