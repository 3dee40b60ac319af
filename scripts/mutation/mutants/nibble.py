"""Packed integers taken apart in the wrong order."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, bitwise, buffer_of, prim

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


OFFERS: dict[str, Offer] = {"nibble order": nibble_order}
