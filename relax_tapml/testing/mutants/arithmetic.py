"""The wrong operation, or one operand too few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm.ir.prim import expr as prim

from relax_tapml.testing.edit import Edit, Offer, Place, instead

_OTHER = {
    prim.Add: prim.Sub,
    prim.Sub: prim.Add,
    prim.Mul: prim.Add,
    prim.Div: prim.Mul,
    prim.FloorDiv: prim.FloorMod,
    prim.FloorMod: prim.FloorDiv,
    prim.Min: prim.Max,
    prim.Max: prim.Min,
    prim.BitwiseAnd: prim.BitwiseOr,
    prim.BitwiseOr: prim.BitwiseAnd,
    prim.LShift: prim.RShift,
    prim.RShift: prim.LShift,
}


def wrong_operation(node: Any, place: Place) -> Iterator[Edit]:
    """Add for subtract, maximum for minimum, and for bitwise, shift and multiply likewise."""
    other = _OTHER.get(type(node))
    if other is not None and place.is_value:
        yield instead(place, node, other(node.a, node.b))


def missing_term(node: Any, place: Place) -> Iterator[Edit]:
    """Leave one operand out: ``a + b -> a``, ``a + b -> b``."""
    if type(node) in _OTHER and place.is_value:
        yield instead(place, node, node.a)
        yield instead(place, node, node.b)


OFFERS: dict[str, Offer] = {"wrong operation": wrong_operation, "missing term": missing_term}
