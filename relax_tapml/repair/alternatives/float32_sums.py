"""Sums in float32 where a kernel has them in a narrower dtype."""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim, prim_op
from relax_tapml.repair._blocks import (
    accumulates,
    dtype_of,
    module_of,
    root_of,
    sums_of,
    with_buffers,
)
from relax_tapml.repair.alternative import Alternative, Kernel, Layer

_NARROW = ("float16", "bfloat16")
_WIDE = "float32"
_OPERATIONS = (prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Min, prim.Max)


class Float32Sums(Alternative):
    """Multiplies and adds in float32, and rounds the result once."""

    name = "float32-sums"
    layer = Layer.DEFINITION
    text = "with sums in float32"

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the kernel so, without a schedule; None if it has no sum of a narrower dtype."""
        schedule = s_tir.Schedule(module_of(kernel.plain))
        own = {p for p in kernel.plain.params if tirx.is_buffer_var(p)}
        names = [block.name_hint for block in _narrow_sums(kernel.plain)]
        if not names:
            return None
        for name in names:
            block = schedule.get_sblock(name)
            if buffer_of(schedule.get(block).writes[0]) in own:
                schedule.cache_write(block, 0, "global")
        made = schedule.mod["main"]
        root_of(made)
        sums = {block.name_hint: block for block in _narrow_sums(made)}
        narrow = [buffer_of(sums[name].writes[0]) for name in names]
        wide = {one: tirx.decl_buffer(one.shape, _WIDE, f"{one.name}_{_WIDE}") for one in narrow}

        def load(new: Any, indices: list[Any]) -> Any:
            (old,) = (one for one, other in wide.items() if other.same_as(new))
            return prim.Cast(str(old.dtype), tirx.BufferLoad(new, indices))

        def store(node: Any, value: Any, indices: list[Any]) -> Any:
            if not accumulates(node):
                return _widened(value)
            new = wide[node.buffer]
            return tirx.BufferLoad(new, indices) + _widened(value.b)

        def cast(node: Any) -> Any:
            inner = node.value
            is_rounded = isinstance(inner, prim.Cast) and isinstance(inner.value, TensorLoad)
            if dtype_of(node) != _WIDE or not is_rounded:
                return node
            return (
                inner.value
                if any(buffer_of(inner.value).same_as(b) for b in wide.values())
                else node
            )

        result = tvm_ffi.structural_map(with_buffers(made, wide, load, store), (prim.Cast, cast))
        return tirx.PrimFunc(result.params, result.body, result.ret_type, kernel.plain.attrs)


def _narrow_sums(kernel: tirx.PrimFunc) -> list[Any]:
    sums = sums_of(kernel, [prim.Add])
    return [block for block in sums if str(block.body.buffer.dtype) in _NARROW]


def _widened(value: Any) -> Any:
    """Return an expression calculated in float32 from its operands."""
    if dtype_of(value) not in _NARROW:
        return prim.Cast(_WIDE, value)
    if isinstance(value, tirx.FloatImm):
        return tirx.const(float(value.value), _WIDE)
    if isinstance(value, prim.Cast):
        return value.value if dtype_of(value.value) == _WIDE else prim.Cast(_WIDE, value)
    if isinstance(value, _OPERATIONS):
        return type(value)(_widened(value.a), _widened(value.b))
    if isinstance(value, prim.Select):
        arms = _widened(value.true_value), _widened(value.false_value)
        return prim.Select(value.condition, *arms)
    if isinstance(value, ir.Call) and value.op.name == prim_op("if_then_else"):
        condition, *arms = value.args
        return tirx.if_then_else(condition, *map(_widened, arms))
    return prim.Cast(_WIDE, value)
