"""What a CPU computes the unit with, in the place of an algorithm for GPUs."""

from __future__ import annotations

import math
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from relax_tapml._compat import SBlock
from relax_tapml.repair._blocks import changed_block, dtype_of, root_of, with_buffers, with_root
from relax_tapml.repair._scheduled import as_scheduled, scheduled
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_THREADS = 32


class HostAlgorithm(Alternative):
    """Binds the loop that a CPU may run in parallel to threads; without one, one thread does all.

    For scans and the like, of which TVM has other algorithms for GPUs. Its sorts for CPUs are calls
    of C++, which no GPU can make.
    """

    name = "host-algorithm"
    layer = Layer.DEFINITION
    text = "by the algorithm for CPUs"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return it so; None on CPUs, where it calls functions, and where it takes other values."""
        host = kernel.host
        if not kernel.is_for_gpu or host is None or _calls(host):
            return None
        if tvm_ffi.structural_equal(host.body, kernel.lowered.body, map_free_vars=True):
            return None
        made = _with_params_of(kernel.lowered, host)
        if made is None:
            return None
        if not _is_opaque(made):
            return as_scheduled(scheduled(made, kernel.target))
        return as_scheduled(_bound(made))


def _calls(kernel: tirx.PrimFunc) -> bool:
    """Whether it calls packed or C functions."""
    calls: list[Any] = []
    tvm_ffi.structural_walk(kernel.body, (ir.Call, calls.append))
    names = [getattr(call.op, "name", "") for call in calls]
    return any("packed" in name or "extern" in name for name in names)


def _with_params_of(other: tirx.PrimFunc, host: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Return a kernel with the parameters of another, which may group their axes otherwise."""
    pairs = list(zip(host.params, other.params, strict=False))
    if len(host.params) != len(other.params) or any(
        not (tirx.is_buffer_var(one) and tirx.is_buffer_var(new)) or one.dtype != new.dtype
        for one, new in pairs
    ):
        return None
    if any(_differ(_size(one), _size(new)) for one, new in pairs):
        return None
    old = {new: one for one, new in pairs}

    def indices(new: Any, own: list[Any]) -> list[Any]:
        flat: Any = tirx.const(0, "int64")
        for extent, index in zip(old[new].shape, own, strict=True):
            flat = flat * extent + index
        found: list[Any] = []
        for extent in reversed(new.shape[1:]):
            found.append(flat % extent)
            flat = flat // extent
        return [flat, *reversed(found)] if len(new.shape) else []

    def load(new: Any, own: list[Any]) -> Any:
        return tirx.BufferLoad(new, indices(new, own))

    made = with_buffers(host, dict(pairs), load, lambda _node, value, _own: value, indices)
    return tirx.PrimFunc(list(other.params), made.body, made.ret_type, made.attrs)


def _size(buffer: Any) -> int | None:
    """Return how many values a buffer has; None where that is not constant."""
    extents = list(buffer.shape)
    if not all(isinstance(extent, tirx.IntImm) for extent in extents):
        return None
    return math.prod(int(extent) for extent in extents)


def _differ(one: int | None, other: int | None) -> bool:
    return None not in (one, other) and one != other


def _is_opaque(kernel: tirx.PrimFunc) -> bool:
    """Whether a block has loops or no axes, so that dlight's rules cannot see into it."""
    blocks: list[Any] = []
    loops: list[Any] = []
    root = root_of(kernel)
    tvm_ffi.structural_walk(root.body, (SBlock, blocks.append))
    for block in blocks:
        tvm_ffi.structural_walk(block.body, (tirx.For, loops.append))
    return not blocks or bool(loops) or any(not len(block.iter_vars) for block in blocks)


def _bound(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel in threads: one for each value of its outermost loop if that is parallel."""
    root = root_of(kernel)
    outermost = root.body
    if isinstance(outermost, tirx.For) and outermost.kind == tirx.ForKind.PARALLEL:
        body = _in_threads(outermost)
    else:
        once = tirx.For(tirx.Var("once", "int32"), 0, 1, tirx.ForKind.SERIAL, root.body)
        body = _in_threads(once)
    inner = changed_block(root, body=body)
    return with_root(kernel, [inner.body], [*root.alloc_buffers])


def _in_threads(loop: Any) -> Any:
    dtype = dtype_of(loop.loop_var)
    extent, size = loop.extent, tirx.const(_THREADS, dtype)
    block, thread = tirx.Var("block", dtype), tirx.Var("thread", dtype)
    number = block * size + thread
    body = tvm_ffi.structural_map(
        loop.body, (tirx.Var, lambda var: number + loop.min if var.same_as(loop.loop_var) else var)
    )
    body = tirx.IfThenElse(number < extent, body, None)
    count = tirx.floordiv(extent + size - 1, size)
    for variable, many, tag in ((thread, size, "threadIdx.x"), (block, count, "blockIdx.x")):
        bound = tirx.IterVar(None, variable, tirx.IterVar.ThreadIndex, tag)
        body = tirx.For(
            variable, tirx.const(0, dtype), many, tirx.ForKind.THREAD_BINDING, body, bound
        )
    return body
