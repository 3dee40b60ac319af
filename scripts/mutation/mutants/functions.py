"""Wrong elementary functions, a softmax that overflows, and packed integers in the wrong order."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim

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


def no_maximum(node: Any, place: Place) -> Iterator[Edit]:
    """Leave out the subtraction inside an exponential: ``exp(x - maximum) -> exp(x)``."""
    if not isinstance(node, tvm.ir.Call) or not place.is_value:
        return
    if getattr(node.op, "name", "") == "tirx.exp" and isinstance(node.args[0], prim.Sub):
        plain = tvm.ir.Call(node.op, [node.args[0].a], attrs=node.attrs, ret_ty=node.ty)
        yield instead(place, node, plain)


# How many values one word holds.
_PACKED = (2, 4, 8)


def nibble_order(node: Any, place: Place) -> Iterator[Edit]:
    """Count the values in a packed word from the other end: ``i % 8 -> 7 - i % 8``.

    The shift may be calculated, or be loaded from a small table.
    """
    operation, word, old = bitwise(node) or (None, None, None)
    if operation is not operator.rshift or not place.is_value:
        return
    shift = tvm_ffi.structural_mutate(
        old, [(prim.FloorMod, _reversed_position), (TensorLoad, _reversed_load)]
    )
    if not tvm_ffi.structural_equal(shift, old):
        yield instead(place, node, word >> shift)


def _reversed_position(node: Any, _: Any) -> Any:
    count = int(node.b.value) if isinstance(node.b, tirx.IntImm) else 0
    return count - 1 - node if count in _PACKED else node


def _reversed_load(node: Any, _: Any) -> Any:
    extents = [int(e) if isinstance(e, tirx.IntImm) else 0 for e in buffer_of(node).shape]
    axes = [axis for axis, extent in enumerate(extents) if extent != 1]
    if len(axes) != 1 or extents[axes[0]] not in _PACKED:
        return node
    indices = list(node.indices)
    indices[axes[0]] = extents[axes[0]] - 1 - indices[axes[0]]
    return tirx.BufferLoad(buffer_of(node), indices)


OFFERS: dict[str, Offer] = {
    "wrong function": wrong_function,
    "function that overflows": overflowing_function,
    "approximated function": approximated_function,
    "softmax without maximum": no_maximum,
    "nibble order": nibble_order,
}
