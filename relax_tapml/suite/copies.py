"""Tensors most of whose places along an axis are copies of a few, which alone are held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relax_tapml.arrays import Allocate, Array, empty_aligned, hashed
from relax_tapml.cores import in_threads, slices

_TOGETHER = 1 << 20  # Values that one thread copies at once.


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Which places along an axis are copies, and of what.

    Every place that is not held is a copy of one that is, which a hash of its number chooses; never
    of its neighbour's. All tensors with the same places have the same copies, so what is computed
    place by place from such tensors is such a tensor, too.

    Parameters
    ----------
    axis
        Of the tensor.
    places
        That are held, along the axis, ascending: int64, at least one.
    count
        How many places the axis has.

    Raises
    ------
    ValueError
        These are no ascending numbers below ``count``.
    """

    axis: int
    places: Array
    count: int

    def __post_init__(self) -> None:
        places = self.places
        is_inside = len(places) > 0 and places[0] >= 0 and places[-1] < self.count
        if not is_inside or bool((np.diff(places) <= 0).any()):
            raise ValueError(
                f"its places are not {len(places)} ascending numbers below {self.count}"
            )

    @cached_property
    def sources(self) -> Array:
        """For each place of the axis, the number of the held one that it is a copy of: int64."""
        held = len(self.places)
        if held < 3:
            found = np.zeros(self.count, np.int64)
        else:
            # Steps from 1 to held - 1: two neighbours never are the same.
            steps = 1 + hashed(np.arange(self.count, dtype=np.uint64)) % np.uint64(held - 1)
            found = np.asarray(np.cumsum(steps.astype(np.int64)) % held)
        found[self.places] = np.arange(held)
        if held >= 3:
            # Those beside a held place may have become the same as it.
            for beside in (self.places[1:] - 1, self.places[:-1] + 1):
                free = beside[~np.isin(beside, self.places)]
                for _ in range(2):
                    is_same = (found[free] == found[free - 1]) | (found[free] == found[free + 1])
                    found[free] = (found[free] + is_same) % held
        return found

    def held(self, array: Array) -> Array:
        """Return the places of a whole tensor that are held."""
        return array.take(self.places, self.axis)

    def whole(self, held: Array, *, allocate: Allocate = empty_aligned) -> Array:
        """Return the whole tensor, from the places that are held."""
        before, behind = held.shape[: self.axis], held.shape[self.axis + 1 :]
        array = allocate((*before, self.count, *behind), held.dtype)
        if not array.size:
            return array
        bits = f"u{held.itemsize}"  # Values of ml_dtypes are copied one by one.
        extents = math.prod(before), math.prod(behind)
        few = np.ascontiguousarray(held).view(bits).reshape(extents[0], -1, extents[1])
        many = array.view(bits).reshape(extents[0], self.count, extents[1])

        def copy(part: slice) -> None:
            if extents[0] > 1:
                np.take(few[part], self.sources, 1, out=many[part], mode="clip")
            else:
                np.take(few[0], self.sources[part], 0, out=many[0, part], mode="clip")

        whole = extents[0] if extents[0] > 1 else self.count
        in_threads(copy, slices(whole, max(1, _TOGETHER * whole // array.size)))
        return array
