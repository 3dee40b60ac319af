"""Elements by their places, and slices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import tvm
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true
from tvm import relax, tirx

from relax_tapml.frontend._torch_ops.emitter import Emitter, is_same

_FAR = 1 << 62


class Indexing(Emitter):
    """Counts negative places from the end."""

    def _index_tensor(self, node: Node) -> Any:
        """Take along any axes; TVM reads out of bounds where an index is negative, and has the
        indices of several axes in another order.
        """
        data: Any = node.args[0]
        indices: Any = node.args[1]
        if any(index is not None and index.meta["val"].dtype is torch.bool for index in indices):
            raise NotImplementedError("a boolean mask as an index")
        x = self.env[data]
        axes = [axis for axis, index in enumerate(indices) if index is not None]
        if len(axes) == 1:
            (axis,) = axes
            index = self._count_from_end(self.env[indices[axis]], self.shape_of(x)[axis])
            return self._emit(relax.op.take(x, index, axis))
        rest = [axis for axis in range(data.meta["val"].ndim) if axis not in axes]
        at, common = self._places(x, {axis: self.env[indices[axis]] for axis in axes})
        turned = self._emit(relax.op.permute_dims(x, [*axes, *rest]))
        found = self._emit(relax.op.gather_nd(turned, at))
        first, count = place_of_indices(axes), len(common)
        order = [*range(count, count + first), *range(count)]
        order += range(len(order), count + len(rest))
        return self._emit(relax.op.permute_dims(found, order))

    def _places(self, x: Any, indices: Mapping[int, Any]) -> tuple[Any, list[Any]]:
        """Return places along several axes as the last axis of a tensor, and its other axes."""
        shape = self.shape_of(x)
        places = [
            self._count_from_end(self._cast(index, "int64"), shape[axis])
            for axis, index in indices.items()
        ]
        common = _common_shape([list(self.shape_of(place)) for place in places])
        spread = [self._emit(relax.op.broadcast_to(place, common)) for place in places]
        return self._emit(relax.op.stack(spread, axis=len(common))), common

    def _count_from_end(self, index: Any, size: Any) -> Any:
        """Return ``index`` with ``size`` added where it is negative."""
        dtype = index.ty.dtype
        is_negative = self._emit(relax.op.less(index, relax.const(0, dtype)))
        from_end = self._emit(relax.op.add(index, self._cast(self._extent(size), str(dtype))))
        return self._emit(relax.op.where(is_negative, from_end, index))

    def _slice(self, node: Node) -> Any:
        """Count a negative dimension from the end, and rely on PyTorch's record that a slice which
        ends at a dimension, or before its end, is within the tensor. TVM's slice would have the
        length ``min(end, size)``, which matches no later shape.
        """
        x, dim, start, end, step = (*self.retrieve_args(node), *(0, None, None, 1))[:5]
        given: Any = node.args
        rank = given[0].meta["val"].ndim
        dim, start, step = dim % rank, start or 0, step or 1
        size = self.shape_of(x)[dim]
        is_symbolic = tvm.ir.is_prim_expr(end) and not isinstance(end, int)
        if _is_within(node, dim, start, end):
            places = (_from_start(place, size) for place in (start, end))
            ends = [tirx.IntImm("int64", p) if isinstance(p, int) else p for p in places]
            bounds = ([ends[0]], [ends[1]], [tirx.IntImm("int64", 1)])
            return self._emit(relax.op.strided_slice(x, [dim], *bounds, assume_inbound=True))
        if is_symbolic and isinstance(start, int) and start >= 0 and step == 1:
            if start == 0 and is_same(size, end):
                return x
            if given[3].meta["val"] >= 0:
                bounds = ([tirx.IntImm("int64", start)], [end], [tirx.IntImm("int64", 1)])
                return self._emit(relax.op.strided_slice(x, [dim], *bounds, assume_inbound=True))
        arguments = (given[0], dim, *given[2:])
        return super()._slice(SimpleNamespace(args=arguments))

    def _select(self, node: Node) -> Any:
        """Count a negative index from the end; TVM reads out of bounds."""
        x, dim, index = self.retrieve_args(node)
        if not isinstance(index, int) or index >= 0:
            return super()._select(node)
        place = _from_start(index, self.shape_of(x)[dim])
        first, after, step = (
            tirx.IntImm("int64", p) if isinstance(p, int) else p for p in (place, place + 1, 1)
        )
        row = relax.op.strided_slice(x, [dim], [first], [after], [step], assume_inbound=True)
        return self._emit(relax.op.squeeze(self._emit(row), dim))


def _is_within(node: Node, dim: int, start: Any, end: Any) -> bool:
    """Return whether a slice of step 1 of a symbolic size, between two numbers, has the length that
    the numbers give, for every size.
    """
    given: Any = node.args[0]
    size, length = (n.meta["val"].shape[dim] for n in (given, node))
    is_numbers = isinstance(start, int) and (end is None or isinstance(end, int))
    if not is_numbers or not isinstance(size, torch.SymInt) or [*node.args[4:], 1][0] != 1:
        return False
    return bool(statically_known_true(length == _from_start(end, size) - _from_start(start, size)))


def _from_start(place: int | None, size: Any) -> Any:
    """Count a place in a dimension from its start; None, or a number far beyond, is its end."""
    if place is None or place >= _FAR:
        return size
    return place if place >= 0 else size + place


def place_of_indices(axes: Sequence[int]) -> int:
    """Return where PyTorch has the axes of indices: in place of neighbours, else first."""
    return axes[0] if axes[-1] - axes[0] + 1 == len(axes) else 0


def _common_shape(shapes: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the shape that others are broadcast to; extents may be symbolic."""
    aligned = itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    return [
        next((extent for extent in extents if not is_same(extent, 1)), 1) for extents in aligned
    ][::-1]
