"""Sums and products in a type that is too narrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from mutation.edit import Edit, Offer, Place
from relax_tapml._compat import TensorLoad, prim

_NARROW = ("float16", "bfloat16")


def narrowed_accumulator(node: Any, place: Place) -> Iterator[Edit]:
    """Round a float32 reduction to a 16-bit float after every step, as its accumulator would."""
    if not isinstance(node, tirx.BufferStore) or place.realize is None:
        return
    init = place.realize.block.init
    if init is None or init.same_as(node) or _dtype(node.value) != "float32":
        return
    for dtype in _NARROW:
        value = _rounded(node.value, dtype)
        yield Edit(
            where=f"{place.block}: accumulates in {dtype}",
            node=tirx.BufferStore(node.buffer, value, node.indices),
        )


def narrowed_operands(node: Any, place: Place) -> Iterator[Edit]:
    """Round both factors of a float32 product of two loaded values to a 16-bit float first."""
    if not isinstance(node, prim.Mul) or not place.is_value or _dtype(node) != "float32":
        return
    if not all(isinstance(x, TensorLoad) for x in (node.a, node.b)):
        return
    for dtype in _NARROW:
        a, b = (_rounded(x, dtype) for x in (node.a, node.b))
        yield Edit(where=f"{place.block}: multiplies in {dtype}", node=prim.Mul(a, b))


def _rounded(value: Any, dtype: str) -> Any:
    """Return a float32 value rounded to a narrower type."""
    if dtype == "float16":
        return prim.Cast("float32", prim.Cast(dtype, value))
    # TVM removes a cast to bfloat16 and back, so the bits are rounded by hand.
    bits = tirx.reinterpret("uint32", value)
    half = tirx.const(0x7FFF, "uint32") + (bits >> 16 & tirx.const(1, "uint32"))
    return tirx.reinterpret("float32", bits + half & tirx.const(0xFFFF0000, "uint32"))


def _dtype(expression: Any) -> str:
    return str(expression.ty.dtype)


OFFERS: dict[str, Offer] = {
    "narrowed accumulator": narrowed_accumulator,
    "narrowed operands": narrowed_operands,
}
