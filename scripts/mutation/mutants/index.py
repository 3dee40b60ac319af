"""Loads from the neighbour of the right element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, buffer_of


def off_by_one(node: Any, place: Place) -> Iterator[Edit]:
    """Read one element further, or one before, along each axis: ``x[i, k] -> x[i, k + 1]``.

    At the edge it reads out of bounds, as a wrong kernel would. Axes of extent 1 are left out, and
    so is the accumulator of a reduction.
    """
    if not isinstance(node, TensorLoad) or place.store is None:
        return
    if buffer_of(node).same_as(place.store.buffer):
        return
    for axis, extent in enumerate(buffer_of(node).shape):
        if isinstance(extent, tirx.IntImm) and int(extent) == 1:
            continue
        for step in (1, -1):
            indices = list(node.indices)
            indices[axis] = indices[axis] + tirx.const(step, indices[axis].ty.dtype)
            yield instead(place, node, tirx.BufferLoad(buffer_of(node), indices))


OFFERS: dict[str, Offer] = {"index off by one": off_by_one}
