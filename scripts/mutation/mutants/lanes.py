"""Vector lanes in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, buffer_of


def lane_swap(node: Any, place: Place) -> Iterator[Edit]:
    """Exchange the lanes of each pair along the last axis: ``x[j] -> x[j + 1 - 2 * (j % 2)]``.

    What a shuffle of a vector load does that has its lanes wrong; a power of two of lanes always
    has whole pairs, so the last axis must have an even extent.
    """
    if not isinstance(node, TensorLoad) or not place.is_value or not node.indices:
        return
    extent, lane = buffer_of(node).shape[-1], node.indices[-1]
    if not isinstance(extent, tirx.IntImm) or int(extent) % 2:
        return
    if buffer_of(node).same_as(place.store.buffer) or isinstance(lane, tirx.IntImm):
        return
    swapped = lane + 1 - 2 * tirx.floormod(lane, 2)
    yield instead(place, node, tirx.BufferLoad(buffer_of(node), [*node.indices[:-1], swapped]))


OFFERS: dict[str, Offer] = {"lane swap": lane_swap}
