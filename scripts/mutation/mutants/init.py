"""Reductions that begin with something other than their identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from mutation.edit import Edit, Offer, Place


def missing_init(node: Any, place: Place) -> Iterator[Edit]:
    """Begin with what may be in memory, which is the same in every run here: 1, or 0 for a maximum.

    A sum that is never set to zero adds to what was there before.
    """
    if not isinstance(node, tirx.BufferStore) or place.realize is None:
        return
    init = place.realize.block.init
    if init is None or not init.same_as(node):
        return
    dtype = node.value.ty.dtype
    is_zero = isinstance(node.value, tirx.FloatImm | tirx.IntImm) and float(node.value.value) == 0
    garbage = tirx.const(1 if is_zero else 0, str(dtype))
    yield Edit(
        where=f"{place.block}: begins with {1 if is_zero else 0}",
        node=tirx.BufferStore(node.buffer, garbage, node.indices),
    )


OFFERS: dict[str, Offer] = {"missing initialisation": missing_init}
