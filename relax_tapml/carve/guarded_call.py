"""See whether a kernel writes to memory behind its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, TupleType

from relax_tapml.frontend.model import Array

GUARD_BYTES = 1 << 14
_CALL_TIR = Op.get("relax.call_tir")
_COPY = relax.ExternFunc("runtime.TVMTensorCopyFromTo")


def guard_pattern() -> Array:
    """Return what lies behind an output before the call: bytes that no kernel stores by chance."""
    return np.random.default_rng(0).integers(0, 256, GUARD_BYTES, dtype=np.uint8)


def guarded_call(function: relax.Function, *, alignment: int = 1) -> relax.Function | None:
    """Return a case function whose outputs have guards behind them; None if it can have none.

    The first bytes behind an output belong to something else in a real program: to another tensor
    that the memory planner put there, or to the allocator. A kernel that writes there returns the
    right result and breaks another one. Here it meets a pattern, so that it can be seen. ::

        @R.function
        def replay(x: R.Tensor((4,), "float32")):
            out = R.call_tir(cls.kernel, (x,), out_ty=R.Tensor((4,), "float32"))
            return (out,)
        # after
        @R.function(pure=False)
        def replay(x: R.Tensor((4,), "float32"), pattern: R.Tensor((GUARD_BYTES,), "uint8")):
            storage = R.memory.alloc_storage(R.shape([16 + GUARD_BYTES]), ...)
            out = R.memory.alloc_tensor(storage, 0, R.shape([4]), "float32")
            guard = R.memory.alloc_tensor(storage, 16, R.shape([GUARD_BYTES]), "uint8")
            R.call_packed("runtime.TVMTensorCopyFromTo", pattern, guard)
            cls.kernel(x, out)
            seen = R.builtin.alloc_tensor(R.shape([GUARD_BYTES]), "uint8")
            R.call_packed("runtime.TVMTensorCopyFromTo", guard, seen)
            return (out, seen)

    There is no guard before an output: TVM's kernels refuse tensors with an offset.

    Parameters
    ----------
    function
        Of a case. It is guarded if it does one ``call_tir`` of a PrimFunc with static shapes.
    alignment
        Bytes that a guard's place must be a multiple of; up to so many behind an output are not
        seen.
    """
    call = _only_call(function)
    if call is None:
        return None
    returned = call.ty_args[0]
    types = list(returned.fields) if isinstance(returned, TupleType) else [returned]
    if not all(_is_static(ty) for ty in types):
        return None
    params = list(function.params)
    pattern = relax.Var("pattern", relax.TensorType((GUARD_BYTES,), "uint8"))
    builder = relax.BlockBuilder()
    with builder.function("main", [*params, pattern], pure=False):
        outputs, guards = [], []
        for ty in types:
            size = -(-_size_bytes(ty) // alignment) * alignment
            storage = builder.emit(
                relax.op.memory.alloc_storage(
                    relax.ShapeExpr([size + GUARD_BYTES]), 0, "global", "uint8"
                ),
                "storage",
            )
            outputs.append(builder.emit(_tensor_in(storage, 0, ty.shape, str(ty.dtype)), "out"))
            guards.append(builder.emit(_tensor_in(storage, size, pattern.ty.shape, "uint8")))
            builder.emit(_copy(pattern, guards[-1]))
        builder.emit(
            relax.Call(call.args[0], [*call.args[1].fields, *outputs], ty_args=[TupleType([])])
        )
        seen = []
        for guard in guards:
            fresh = relax.op.builtin.alloc_tensor(pattern.ty.shape, "uint8", 0, "global")
            seen.append(builder.emit(fresh, "seen"))
            builder.emit(_copy(guard, seen[-1]))
        builder.emit_func_output(relax.Tuple([*outputs, *seen]))
    guarded = builder.get()["main"]
    return guarded.with_attr("global_symbol", function.attrs["global_symbol"])


def overruns(guards: Sequence[Array]) -> list[str]:
    """Say what was written behind each output, one sentence each.

    Parameters
    ----------
    guards
        What lies behind each output after the call.
    """
    said = []
    for number, guard in enumerate(guards):
        changed = np.flatnonzero(guard != guard_pattern())
        if changed.size:
            reach = int(changed[-1]) + 1
            said.append(
                f"it writes behind the end of its output {number}: {changed.size} bytes differ "
                f"there, the last one {reach} bytes behind it"
            )
    return said


def _only_call(function: relax.Function) -> relax.Call | None:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    calls = [b.value for b in bindings if isinstance(b.value, relax.Call)]
    if len(calls) != 1 or not calls[0].op.same_as(_CALL_TIR) or len(calls[0].args) > 2:
        return None
    call = calls[0]
    known = set(function.params)
    is_plain = all(
        operand in known if isinstance(operand, relax.Var) else True
        for operand in call.args[1].fields
    )
    return call if isinstance(call.args[0], GlobalVar) and is_plain else None


def _is_static(ty: relax.TensorType) -> bool:
    return ty.shape is not None and all(isinstance(e, tirx.IntImm) for e in ty.shape.values)


def _size_bytes(ty: relax.TensorType) -> int:
    dtype = tvm_ffi.dtype(ty.dtype)
    count = int(np.prod([int(extent) for extent in ty.shape.values], dtype=np.int64))
    return int(-(-count * dtype.bits * dtype.lanes // 8))


def _tensor_in(storage: relax.Var, offset: int, shape: relax.Expr, dtype: str) -> relax.Call:
    return relax.op.memory.alloc_tensor(storage, offset, shape, dtype)


def _copy(source: relax.Var, to: relax.Var) -> relax.Call:
    return relax.Call(_COPY, [source, to], ty_args=[TupleType([])])
