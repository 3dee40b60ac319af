"""Constants that are not what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import prim

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


OFFERS: dict[str, Offer] = {"wrong constant": wrong_constant, "wrong epsilon": wrong_epsilon}
