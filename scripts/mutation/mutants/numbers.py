"""Wrong constants, types that are too narrow, and rounding the wrong way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, prim, prim_op

# Constants this small are there to keep a division or a root from zero.
_EPSILON = 1e-4
# Above this a constant stands for infinity, or masks something.
_HUGE = 1e30


def wrong_constant(node: Any, place: Place) -> Iterator[Edit]:
    """Make a constant 1 % larger, or change its sign; a whole number one larger.

    Whole numbers count where something is calculated with them, also for an index.
    """
    if isinstance(node, prim.FloatImm) and place.is_value:
        value, dtype = float(node.value), str(node.ty.dtype)
        if value == 0:
            yield instead(place, node, tirx.const(0.01, dtype))
            return
        if _EPSILON <= abs(value) < _HUGE:
            yield instead(place, node, tirx.const(value * 1.01, dtype))
        yield instead(place, node, tirx.const(-value, dtype))
    elif isinstance(node, prim.IntImm) and place.store is not None and not place.is_init:
        is_calculated = isinstance(place.parent, prim.BinaryOpExpr | prim.CmpExpr)
        if is_calculated and str(node.ty.dtype) != "bool":
            yield instead(place, node, tirx.const(int(node.value) + 1, str(node.ty.dtype)))


def wrong_epsilon(node: Any, place: Place) -> Iterator[Edit]:
    """Take another usual epsilon, ten times the right one, or none."""
    if not (isinstance(node, prim.FloatImm) and place.is_value):
        return
    value, dtype = float(node.value), str(node.ty.dtype)
    if not 0 < value < _EPSILON:
        return
    for other in (1e-5 if value != 1e-5 else 1e-6, 10 * value, 0.0):
        yield instead(place, node, tirx.const(other, dtype))


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


_ROUNDINGS = {
    "tirx.floor": (tirx.ceil, tirx.trunc),
    prim_op("ceil"): (tirx.floor, tirx.trunc),
    "tirx.trunc": (tirx.floor, tirx.round),
    "tirx.round": (tirx.trunc, tirx.floor),
    "tirx.nearbyint": (tirx.trunc, tirx.floor),
}


def truncating_cast(node: Any, place: Place) -> Iterator[Edit]:
    """Cut the last bits off where a cast to a narrower float must round to the nearest."""
    if not isinstance(node, prim.Cast) or not place.is_value:
        return
    wide, narrow = str(node.value.ty.dtype), str(node.ty.dtype)
    if wide != "float32" or narrow not in ("float16", "bfloat16"):
        return
    if narrow == "bfloat16":
        high = tirx.reinterpret("uint32", node.value) & tirx.const(0xFFFF0000, "uint32")
        yield instead(place, node, prim.Cast(narrow, tirx.reinterpret("float32", high)))
        return
    # The value next to the rounded one, nearer to zero, if rounding went away from zero.
    bits = tirx.reinterpret("uint16", node)
    below = tirx.reinterpret(narrow, bits - tirx.const(1, "uint16"))
    is_away = tirx.abs(prim.Cast(wide, node)) > tirx.abs(node.value)
    yield instead(place, node, prim.Select(is_away, below, node))


def wrong_rounding(node: Any, place: Place) -> Iterator[Edit]:
    """Round in another direction: up for down, and to the nearest in a cast that cuts off."""
    if not place.is_value:
        return
    if isinstance(node, tvm.ir.Call):
        for other in _ROUNDINGS.get(getattr(node.op, "name", ""), ()):
            yield instead(place, node, other(node.args[0]))
    elif isinstance(node, prim.Cast):
        is_from_float = "float" in str(node.value.ty.dtype)
        if is_from_float and str(node.ty.dtype).startswith(("int", "uint")):
            for rounding in (tirx.nearbyint, tirx.floor):
                yield instead(place, node, prim.Cast(node.ty.dtype, rounding(node.value)))


OFFERS: dict[str, Offer] = {
    "wrong constant": wrong_constant,
    "wrong epsilon": wrong_epsilon,
    "narrowed accumulator": narrowed_accumulator,
    "narrowed operands": narrowed_operands,
    "truncating cast": truncating_cast,
    "wrong rounding mode": wrong_rounding,
}
