"""Operands in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.prim import expr as prim

from relax_tapml.testing.edit import Edit, Offer, Place, instead

_ORDERED = (prim.Sub, prim.Div, prim.FloorDiv, prim.FloorMod, prim.Mod)
_ORDERED_CALLS = ("tirx.pow", "tirx.fmod", "tirx.atan2", "tirx.copysign")
_CHOICE = "prim.if_then_else"


def swapped_operands(node: Any, place: Place) -> Iterator[Edit]:
    """Exchange what is not symmetric: ``a - b``, ``a / b``, the arms of a select, both matrices.

    Factors of a product are taken from each other's tensor if the shapes are the same.
    """
    if not place.is_value:
        return
    if isinstance(node, _ORDERED):
        yield instead(place, node, type(node)(node.b, node.a))
    elif isinstance(node, prim.Select):
        arms = node.false_value, node.true_value
        yield instead(place, node, prim.Select(node.condition, *arms))
    elif isinstance(node, prim.Mul):
        yield from _swapped_tensors(node, place)
    elif isinstance(node, tvm.ir.Call):
        name = getattr(node.op, "name", "")
        if name in _ORDERED_CALLS:
            yield instead(place, node, _with_args(node, (node.args[1], node.args[0])))
        elif name == _CHOICE:
            condition, yes, no = node.args
            yield instead(place, node, _with_args(node, (condition, no, yes)))


def _swapped_tensors(node: prim.Mul, place: Place) -> Iterator[Edit]:
    a, b = node.a, node.b
    if not (isinstance(a, tvm.ir.TensorLoad) and isinstance(b, tvm.ir.TensorLoad)):
        return
    if a.source.same_as(b.source):
        return
    if tvm_ffi.structural_equal(a.source.shape, b.source.shape):
        swapped = tirx.BufferLoad(b.source, a.indices) * tirx.BufferLoad(a.source, b.indices)
        yield instead(place, node, swapped)


def _with_args(call: Any, args: tuple[Any, ...]) -> Any:
    return tvm.ir.Call(call.op, list(args), attrs=call.attrs, ret_ty=call.ty)


OFFERS: dict[str, Offer] = {"swapped operands": swapped_operands}
