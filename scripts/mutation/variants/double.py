"""Kernels that calculate in float64 and round at the end."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule

from mutation.edit import Place, edit_all, with_declared_regions
from mutation.variants.scheduling import Made, Maker, NotApplicableError, scheduled
from relax_tapml._compat import SBlock, TensorLoad, buffer_of, prim

_UNARY = ("tirx.exp", "tirx.tanh", "tirx.sqrt", "tirx.rsqrt", "tirx.sigmoid", "tirx.fabs",
          "tirx.log", "tirx.cos", "tirx.sin", "tirx.erf")  # fmt: skip
_BINARY = (prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Min, prim.Max)


def _elementwise(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def store(node: Any, place: Place) -> Any:
        if not isinstance(node, tirx.BufferStore) or str(node.value.ty.dtype) != "float32":
            return None
        if place.realize is None or place.realize.block.init is not None:
            return None
        if not isinstance(node.value, (*_BINARY, tvm.ir.Call)):
            return None
        value = prim.Cast("float32", in_float64(node.value))
        return tirx.BufferStore(node.buffer, value, node.indices)

    count, made = edit_all(function, store)
    if count:
        yield f"{count} blocks calculate in float64", made


def _accumulator(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def change(schedule: Schedule, block: Any) -> None:
        found = schedule.get(block)
        if found.init is None or str(buffer_of(found.writes[0]).dtype) != "float32":
            raise NotApplicableError("it is no float32 reduction")
        schedule.cache_write(block, 0, "global")

    for name, made in scheduled(function, change):
        yield f"{name}: accumulates in float64", _with_float64_cache(made, name)


def _with_float64_cache(function: tirx.PrimFunc, block_name: str) -> tirx.PrimFunc:
    """Make the tensor that a block reduces into float64, and round where it is read."""
    narrow: list[Any] = []

    def find(block: Any) -> None:
        if block.name_hint == block_name:
            narrow.append(buffer_of(block.writes[0]))

    tvm_ffi.structural_walk(function, [(SBlock, find)])
    (old,) = narrow
    new = tirx.decl_buffer(old.shape, "float64", f"{old.name}_float64")

    def store(node: Any, mutator: Any) -> Any:
        if node.buffer.same_as(old):
            return tirx.BufferStore(new, in_float64(node.value, {old: new}), node.indices)
        return mutator.default_mutate(node)

    def load(node: Any, mutator: Any) -> Any:
        if buffer_of(node).same_as(old):
            return prim.Cast("float32", tirx.BufferLoad(new, node.indices))
        return mutator.default_mutate(node)

    def var(node: Any, mutator: Any) -> Any:
        return new if node.same_as(old) else mutator.default_mutate(node)

    changed = tvm_ffi.structural_mutate(
        function, [(tirx.BufferStore, store), (TensorLoad, load), (tirx.Var, var)]
    )
    return with_declared_regions(changed)


def in_float64(node: Any, wide: dict[Any, Any] | None = None) -> Any:
    """Return a float32 expression calculated in float64.

    Parameters
    ----------
    node
        Anything that is not a sum, product, choice or known function is calculated as it is, and
        then converted.
    wide
        Tensors to load from in place of others: float64 for float32.
    """
    if str(node.ty.dtype) != "float32":
        return prim.Cast("float64", node)
    if isinstance(node, tirx.FloatImm):
        return tirx.const(float(node.value), "float64")
    if isinstance(node, TensorLoad) and wide and buffer_of(node) in wide:
        return tirx.BufferLoad(wide[buffer_of(node)], node.indices)
    if isinstance(node, _BINARY):
        return type(node)(in_float64(node.a, wide), in_float64(node.b, wide))
    if isinstance(node, prim.Select):
        arms = in_float64(node.true_value, wide), in_float64(node.false_value, wide)
        return prim.Select(node.condition, *arms)
    if isinstance(node, tvm.ir.Call) and getattr(node.op, "name", "") in _UNARY:
        return tvm.ir.Call(node.op, [in_float64(node.args[0], wide)], ret_ty="float64")
    return prim.Cast("float64", node)


MAKERS: dict[str, Maker] = {
    "calculated in float64": _elementwise,
    "float64 accumulator": _accumulator,
}
