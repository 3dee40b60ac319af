"""Schedules of single kernels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import dlight
from tvm_ffi import structural_walk

from relax_tapml._compat import SBlock, SBlockRealize
from relax_tapml.targets.toolchain.default_schedule import schedule

_NAME = "main"
_SCHEDULED = "tirx.is_scheduled"


def scheduled(kernel: tirx.PrimFunc, target: Any) -> tirx.PrimFunc:
    """Return a kernel as it is compiled: with its own schedule, or the default one."""
    function = schedule(tvm.IRModule({_NAME: kernel}), target)[_NAME]
    return function.with_attr(_SCHEDULED, True)


def scheduled_by(kernel: tirx.PrimFunc, target: Any, rules: Sequence[Any]) -> tirx.PrimFunc | None:
    """Return a kernel scheduled by the first rule of dlight that applies; None if none does."""
    with target:
        made = dlight.ApplyDefaultSchedule(*rules)(tvm.IRModule({_NAME: kernel}))[_NAME]
    return made if made.attrs.get(_SCHEDULED, False) else None


def serially_scheduled(kernel: tirx.PrimFunc, target: Any) -> tirx.PrimFunc | None:
    """Return a kernel whose sums are serial: one thread for each on a GPU, plain loops on a CPU."""
    if "gpu" not in target.keys:
        return as_scheduled(kernel)
    return scheduled_by(kernel, target, [dlight.gpu.Fallback()])


def as_scheduled(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel that is compiled with no other schedule than its own."""
    return kernel.with_attr(_SCHEDULED, True)


def is_plain(kernel: tirx.PrimFunc) -> bool:
    """Whether a kernel is as operators are lowered: without marks of a schedule, or threads."""
    if (kernel.attrs or {}).get(_SCHEDULED, False):
        return False
    loops, attributes = list[Any](), list[Any]()
    structural_walk(kernel.body, [(tirx.For, loops.append), (tirx.AttrStmt, attributes.append)])
    return not attributes and all(
        loop.kind in (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL) for loop in loops
    )


def shares_memory(kernel: tirx.PrimFunc) -> bool:
    """Whether the threads of a scheduled kernel share memory, also by sums across threads."""
    blocks, loops = list[Any](), list[Any]()
    structural_walk(kernel.body, [(SBlock, blocks.append), (tirx.For, loops.append)])
    if any(buffer.scope().startswith("shared") for one in blocks for buffer in one.alloc_buffers):
        return True
    threads = [loop for loop in loops if _is_thread(loop)]
    return any(_sums_by(loop.loop_var, loop.body) for loop in threads)


def limited(target: Any, **limits: int) -> Any:
    """Return a target with other values of those of some attributes that it has."""
    own = {name: value for name, value in limits.items() if name in target.attrs}
    return tvm.target.Target({**json.loads(str(target)), **own})


def _is_thread(loop: Any) -> bool:
    is_bound = loop.kind == tirx.ForKind.THREAD_BINDING
    return is_bound and str(loop.thread_binding.thread_tag).startswith("threadIdx")


def _sums_by(variable: Any, body: Any) -> bool:
    """Whether a block below a loop adds up over the values of the loop's variable."""
    realizes, found = list[Any](), list[Any]()
    structural_walk(body, (SBlockRealize, realizes.append))
    for realize in realizes:
        for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            if axis.iter_type == tirx.IterVar.CommReduce:
                structural_walk(value, (tirx.Var, found.append))
    return any(one.same_as(variable) for one in found)
