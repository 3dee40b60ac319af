"""Loads along the wrong axis."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import TensorLoad, buffer_of


def transposed(node: Any, place: Place) -> Iterator[Edit]:
    """Exchange two indices of a load whose axes have the same extent: ``x[i, j] -> x[j, i]``."""
    if not _is_load(node, place):
        return
    for a, b in combinations(range(len(node.indices)), 2):
        if _extent(buffer_of(node).shape[a]) == 1 or not _same(buffer_of(node).shape, a, b):
            continue
        indices = list(node.indices)
        indices[a], indices[b] = indices[b], indices[a]
        yield instead(place, node, tirx.BufferLoad(buffer_of(node), indices))


def wrong_axis(node: Any, place: Place) -> Iterator[Edit]:
    """Use another variable of the block as an index: ``bias[j] -> bias[i]``.

    Only where that stays in bounds, so that a broadcast or a reduction runs along another axis.
    """
    if not _is_load(node, place):
        return
    extents = {v.var: v.dom.extent for v in place.realize.block.iter_vars}
    for axis, index in enumerate(node.indices):
        if index not in extents:
            continue
        for other, extent in extents.items():
            if other.same_as(index) or _extent(extent) == 1:
                continue
            if not _fits(extent, buffer_of(node).shape[axis]):
                continue
            indices = list(node.indices)
            indices[axis] = other
            yield instead(place, node, tirx.BufferLoad(buffer_of(node), indices))


def _is_load(node: Any, place: Place) -> bool:
    return (
        isinstance(node, TensorLoad)
        and place.store is not None
        and place.realize is not None
        and not buffer_of(node).same_as(place.store.buffer)
    )


def _extent(extent: Any) -> int | None:
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _same(shape: Any, a: int, b: int) -> bool:
    return bool(tvm_ffi.structural_equal(shape[a], shape[b]))


def _fits(extent: Any, size: Any) -> bool:
    known, room = _extent(extent), _extent(size)
    if known is None or room is None:
        return bool(tvm_ffi.structural_equal(extent, size))
    return known <= room


OFFERS: dict[str, Offer] = {"transpose ignored": transposed, "wrong axis": wrong_axis}
