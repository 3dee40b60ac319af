"""The wrong operation, the wrong condition, or operands in the wrong order."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim, prim_op

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


_OTHER: dict[Any, Callable[[Any, Any], Any]] = {
    prim.Add: prim.Sub,
    prim.Sub: prim.Add,
    prim.Mul: prim.Add,
    prim.Div: prim.Mul,
    prim.FloorDiv: prim.FloorMod,
    prim.FloorMod: prim.FloorDiv,
    prim.Min: prim.Max,
    prim.Max: prim.Min,
    operator.and_: operator.or_,
    operator.or_: operator.and_,
    operator.lshift: operator.rshift,
    operator.rshift: operator.lshift,
}


def wrong_operation(node: Any, place: Place) -> Iterator[Edit]:
    """Add for subtract, maximum for minimum, and for bitwise, shift and multiply likewise."""
    operation, a, b = _parts(node)
    if operation in _OTHER and place.is_value:
        yield instead(place, node, _OTHER[operation](a, b))


def missing_term(node: Any, place: Place) -> Iterator[Edit]:
    """Leave one operand out: ``a + b -> a``, ``a + b -> b``."""
    operation, a, b = _parts(node)
    if operation in _OTHER and place.is_value:
        yield instead(place, node, a)
        yield instead(place, node, b)


def _parts(node: Any) -> tuple[Any, Any, Any]:
    """Return the operation and what it is done with."""
    return bitwise(node) or (type(node), getattr(node, "a", None), getattr(node, "b", None))


_EDGE = {prim.LT: prim.LE, prim.LE: prim.LT, prim.GT: prim.GE, prim.GE: prim.GT}
_OPPOSITE = {prim.LT: prim.GT, prim.LE: prim.GE, prim.GT: prim.LT, prim.GE: prim.LE}
_NEGATED = {prim.EQ: prim.NE, prim.NE: prim.EQ, prim.And: prim.Or, prim.Or: prim.And}


def wrong_edge(node: Any, place: Place) -> Iterator[Edit]:
    """Include the edge where it is excluded, and the other way round: ``i < n -> i <= n``."""
    if type(node) in _EDGE:
        yield instead(place, node, _EDGE[type(node)](node.a, node.b))


def wrong_condition(node: Any, place: Place) -> Iterator[Edit]:
    """Ask the opposite, or join conditions wrongly."""
    other = _OPPOSITE.get(type(node)) or _NEGATED.get(type(node))
    if other is not None:
        yield instead(place, node, other(node.a, node.b))
    elif isinstance(node, prim.Not):
        yield instead(place, node, node.a)


OFFERS: dict[str, Offer] = {
    "swapped operands": swapped_operands,
    "wrong operation": wrong_operation,
    "missing term": missing_term,
    "wrong edge": wrong_edge,
    "wrong condition": wrong_condition,
}
