"""Writes at indices, and the places of what is not zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.emitter import dtype_of
from relax_tapml.frontend._torch_ops.indexing import Indexing, place_of_indices


class Scatters(Indexing):
    """Writes at any number of indices, which may repeat."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        return {
            **super().create_convert_map(),
            "nonzero_static.default": self._nonzero_static,
        }

    def _index_put(self, node: Node) -> Any:
        """Write along any axes, also where a mask is true; TVM wants one index of whole numbers for
        every axis, and writes out of bounds where one is negative.
        """
        given: Any = (*node.args, False)[:4]
        data, indices, values, is_added = given
        if any(i is not None and i.meta["val"].dtype is torch.bool for i in indices):
            return self._put_where(data, indices, values, is_added=is_added)
        x, dtype = self.env[data], dtype_of(node)
        axes = [axis for axis, index in enumerate(indices) if index is not None]
        if not axes:
            raise NotImplementedError("no index")
        rest = [axis for axis in range(data.meta["val"].ndim) if axis not in axes]
        at, common = self._places(x, {axis: self.env[indices[axis]] for axis in axes})
        first = place_of_indices(axes)
        kept = [self.shape_of(x)[axis] for axis in rest]
        updates = relax.op.broadcast_to(
            self._cast(self.env[values], dtype), [*kept[:first], *common, *kept[first:]]
        )
        moved = [*range(first, first + len(common)), *range(first)]
        moved += range(len(moved), len(common) + len(rest))
        updates = self._emit(relax.op.permute_dims(self._emit(updates), moved))
        # TVM does not write booleans, and PyTorch adds narrow floats in float32.
        wide = "int8" if dtype == "bool" else "float32" if is_added and "16" in dtype else dtype
        if dtype == "bool" and is_added:
            raise NotImplementedError("accumulate of booleans")
        order = [*axes, *rest]
        turned = self._cast(self._emit(relax.op.permute_dims(x, order)), wide)
        way = "add" if is_added else "update"
        put = relax.op.scatter_nd(turned, at, self._cast(updates, wide), way)
        back = [order.index(axis) for axis in range(len(order))]
        return self._emit(relax.op.permute_dims(self._cast(self._emit(put), dtype), back))

    def _put_where(self, data: Node, indices: Any, values: Node, *, is_added: bool) -> Any:
        first = next(axis for axis, index in enumerate(indices) if index is not None)
        mask, *others = indices[first:]
        rank, given = data.meta["val"].ndim, values.meta["val"]
        rest = rank - first - mask.meta["val"].ndim
        is_one = all(extent == 1 for extent in given.shape[: max(given.ndim - rest, 0)])
        if any(other is not None for other in others) or not is_one:
            raise NotImplementedError("as many values as a mask has trues")
        x, dtype = self.env[data], dtype_of(data)
        where = relax.op.reshape(self.env[mask], [*self.shape_of(self.env[mask]), *[1] * rest])
        new = self._cast(self.env[values], dtype)
        if given.ndim > rest:
            new = self._emit(relax.op.reshape(new, [*self.shape_of(new)][given.ndim - rest :]))
        if is_added:
            new = self._emit(relax.op.add(x, new))
        return self._emit(relax.op.where(self._emit(where), new, x))

    def _nonzero_static(self, node: Node) -> Any:
        """Number what is not zero, and write its place there; TVM has no converter."""
        size: Any = node.kwargs["size"]
        fill: Any = node.kwargs.get("fill_value", -1)
        of: Any = node.args[0]
        x, rank = self.env[of], of.meta["val"].ndim
        if not rank or not isinstance(size, int) or size < 1:
            raise NotImplementedError(f"{rank} dimensions and a size of {size}")
        shape = list(self.shape_of(x))
        count = math.prod(shape[1:], start=shape[0])
        flat = self._emit(relax.op.reshape(x, [count]))
        is_there = self._emit(
            flat if dtype_of(of) == "bool" else relax.op.not_equal(flat, self._zero(of))
        )
        number = self._emit(relax.op.cumsum(self._cast(is_there, "int64"), 0))
        # The places that there is no room for are written behind the result.
        last = relax.const(size, "int64")
        number = self._emit(relax.op.subtract(number, relax.const(1, "int64")))
        number = self._emit(relax.op.where(is_there, number, last))
        number = self._emit(relax.op.minimum(number, last))
        empty = self._emit(relax.op.full([size + 1], relax.const(-1, "int64"), "int64"))
        place = self._emit(relax.op.arange(0, count, 1, "int64"))
        found = self._emit(relax.op.scatter_elements(empty, number, place))
        found = self._emit(relax.op.strided_slice(found, [0], [0], [size]))
        is_none = self._emit(relax.op.less(found, relax.const(0, "int64")))
        columns = []
        for extent in reversed(shape):
            divisor = self._extent(extent)
            column = self._emit(relax.op.floor_mod(found, divisor))
            columns.append(self._emit(relax.op.where(is_none, relax.const(fill, "int64"), column)))
            found = self._emit(relax.op.floor_divide(found, divisor))
        return self._emit(relax.op.stack(columns[::-1], axis=1))

    def _zero(self, node: Node) -> Any:
        return relax.const(0, dtype_of(node))
