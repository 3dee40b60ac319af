"""Loads of the wrong element."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, buffer_of


def off_by_one(node: Any, place: Place) -> Iterator[Edit]:
    """Read one element further, or one before, along each axis: ``x[i, k] -> x[i, k + 1]``.

    At the edge it reads out of bounds, as a wrong kernel would.
    """
    if not _is_load(node, place):
        return
    for axis, extent in enumerate(buffer_of(node).shape):
        if _extent(extent) == 1:
            continue
        for step in (1, -1):
            index = node.indices[axis]
            yield _loaded(node, place, {axis: index + tirx.const(step, index.ty.dtype)})


def transposed(node: Any, place: Place) -> Iterator[Edit]:
    """Exchange two indices of a load whose axes have the same extent: ``x[i, j] -> x[j, i]``."""
    if not _is_load(node, place) or place.realize is None:
        return
    shape = buffer_of(node).shape
    for a, b in combinations(range(len(node.indices)), 2):
        if _extent(shape[a]) != 1 and tvm_ffi.structural_equal(shape[a], shape[b]):
            yield _loaded(node, place, {a: node.indices[b], b: node.indices[a]})


def wrong_axis(node: Any, place: Place) -> Iterator[Edit]:
    """Use another variable of the block as an index: ``bias[j] -> bias[i]``.

    Only where that stays in bounds, so that a broadcast or a reduction runs along another axis.
    """
    if not _is_load(node, place) or place.realize is None:
        return
    extents = {v.var: v.dom.extent for v in place.realize.block.iter_vars}
    for axis, index in enumerate(node.indices):
        if index not in extents:
            continue
        for other, extent in extents.items():
            is_other = not other.same_as(index) and _extent(extent) != 1
            if is_other and _fits(extent, buffer_of(node).shape[axis]):
                yield _loaded(node, place, {axis: other})


def lane_swap(node: Any, place: Place) -> Iterator[Edit]:
    """Exchange the lanes of each pair along the last axis: ``x[j] -> x[j + 1 - 2 * (j % 2)]``.

    What a shuffle of a vector load does that has its lanes wrong; a power of two of lanes always
    has whole pairs, so the last axis must have an even extent.
    """
    if not _is_load(node, place) or not place.is_value or not node.indices:
        return
    extent, lane = _extent(buffer_of(node).shape[-1]), node.indices[-1]
    if extent is not None and extent % 2 == 0 and not isinstance(lane, tirx.IntImm):
        last = len(node.indices) - 1
        yield _loaded(node, place, {last: lane + 1 - 2 * tirx.floormod(lane, 2)})


def _is_load(node: Any, place: Place) -> bool:
    """Return whether a node loads for a store, but not from the accumulator of a reduction."""
    return (
        isinstance(node, TensorLoad)
        and place.store is not None
        and not buffer_of(node).same_as(place.store.buffer)
    )


def _loaded(node: Any, place: Place, changed: dict[int, Any]) -> Edit:
    """Load with other indices of some axes."""
    indices = [changed.get(axis, index) for axis, index in enumerate(node.indices)]
    return instead(place, node, tirx.BufferLoad(buffer_of(node), indices))


def _extent(extent: Any) -> int | None:
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _fits(extent: Any, size: Any) -> bool:
    known, room = _extent(extent), _extent(size)
    if known is None or room is None:
        return bool(tvm_ffi.structural_equal(extent, size))
    return known <= room


OFFERS: dict[str, Offer] = {
    "index off by one": off_by_one,
    "transpose ignored": transposed,
    "wrong axis": wrong_axis,
    "lane swap": lane_swap,
}
