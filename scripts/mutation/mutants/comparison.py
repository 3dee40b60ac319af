"""Conditions that are wrong, most of them only at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import prim

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


OFFERS: dict[str, Offer] = {"wrong edge": wrong_edge, "wrong condition": wrong_condition}
