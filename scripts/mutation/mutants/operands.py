"""Operands in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, buffer_of, prim, prim_op

_ORDERED = (prim.Sub, prim.Div, prim.FloorDiv, prim.FloorMod, prim.Mod)
_ORDERED_CALLS = ("tirx.pow", "tirx.fmod", "tirx.atan2", "tirx.copysign")
_CHOICE = prim_op("if_then_else")


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
    if not (isinstance(node.a, TensorLoad) and isinstance(node.b, TensorLoad)):
        return
    a, b = buffer_of(node.a), buffer_of(node.b)
    if not a.same_as(b) and tvm_ffi.structural_equal(a.shape, b.shape):
        swapped = tirx.BufferLoad(b, node.a.indices) * tirx.BufferLoad(a, node.b.indices)
        yield instead(place, node, swapped)


def _with_args(call: Any, args: tuple[Any, ...]) -> Any:
    return tvm.ir.Call(call.op, list(args), attrs=call.attrs, ret_ty=call.ty)


OFFERS: dict[str, Offer] = {"swapped operands": swapped_operands}
