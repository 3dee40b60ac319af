"""The wrong operation, or one operand too few."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import bitwise, prim

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


OFFERS: dict[str, Offer] = {"wrong operation": wrong_operation, "missing term": missing_term}
