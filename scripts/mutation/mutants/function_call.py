"""Elementary functions: another one, or one computed in a way that overflows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import tvm
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead

_OTHER: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": tirx.exp2,
    "tirx.exp2": tirx.exp,
    "tirx.log": tirx.log2,
    "tirx.sqrt": tirx.rsqrt,
    "tirx.rsqrt": tirx.sqrt,
    "tirx.sin": tirx.cos,
    "tirx.cos": tirx.sin,
    "tirx.tanh": tirx.sigmoid,
    "tirx.sigmoid": tirx.tanh,
    "tirx.erf": tirx.tanh,
    "tirx.fabs": lambda x: x,
}


def wrong_function(node: Any, place: Place) -> Iterator[Edit]:
    """Call a function that is easily confused with the right one."""
    other = _OTHER.get(_name(node))
    if other is not None and place.is_value:
        yield instead(place, node, other(node.args[0]))


def overflowing_function(node: Any, place: Place) -> Iterator[Edit]:
    """Compute tanh and sigmoid from exponentials that become infinite, and infinity / infinity."""
    if not place.is_value:
        return
    if _name(node) == "tirx.tanh":
        grown = tirx.exp(2 * node.args[0])
        yield instead(place, node, (grown - 1) / (grown + 1))
    elif _name(node) == "tirx.sigmoid":
        grown = tirx.exp(node.args[0])
        yield instead(place, node, grown / (grown + 1))


def approximated_function(node: Any, place: Place) -> Iterator[Edit]:
    """Compute erf as the fast GeLU does: ``tanh(sqrt(2 / pi) * (y + 0.044715 * y**3))``.

    Here ``y`` is ``sqrt(2) * x``. It is off by up to 5e-4.
    """
    if _name(node) == "tirx.erf" and place.is_value:
        y = node.args[0] * math.sqrt(2)
        inner = (y + y * y * y * 0.044715) * math.sqrt(2 / math.pi)
        yield instead(place, node, tirx.tanh(inner))


def _name(node: Any) -> str:
    return str(getattr(node.op, "name", "")) if isinstance(node, tvm.ir.Call) else ""


OFFERS: dict[str, Offer] = {
    "wrong function": wrong_function,
    "function that overflows": overflowing_function,
    "approximated function": approximated_function,
}
