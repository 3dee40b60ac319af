"""Embedding bags: rows of a table, put together by bag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.emitter import Emitter, dtype_of

_SUM, _MEAN, _MAX = range(3)


class Bags(Emitter):
    """Sums, means and maxima of bags of rows; TVM has no converter."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        names = ("_embedding_bag.default", "_embedding_bag_forward_only.default")
        return {**super().create_convert_map(), **dict.fromkeys(names, self._embedding_bag)}

    def _embedding_bag(self, node: Node) -> Any:
        """Return the bags alone: what else PyTorch returns is for gradients.

        Where the last offset of closed bags is not the number of rows, PyTorch's own results
        depend on the dtype; here the last bag ends there.
        """
        defaults: Any = (False, _SUM, False, None, False, -1)
        given: Any = self.retrieve_args(node)
        values: Any = (*given, *defaults[len(given) - 3 :])
        weight, indices, offsets, _, mode, _, weights, is_closed, padding = values
        of: Any = node.args[0]
        dtype = dtype_of(of)
        wide = "float32" if "16" in dtype else dtype
        (length,), (bags,) = self.shape_of(indices), self.shape_of(offsets)
        bags = bags - 1 if is_closed else bags
        width = self.shape_of(weight)[1]
        place = self._emit(relax.op.arange(0, length, 1, str(offsets.ty.dtype)))
        bag = self._emit(relax.op.bucketize(place, offsets, right=True))
        bag = self._emit(relax.op.subtract(bag, relax.const(1, "int64")))
        # What is in no bag goes to one behind the others.
        none = self._extent(bags)
        if padding >= 0:
            is_padding = relax.op.equal(indices, relax.const(padding, str(indices.ty.dtype)))
            bag = self._emit(relax.op.where(self._emit(is_padding), none, bag))
        bag = self._emit(relax.op.expand_dims(bag, 1))
        rows = self._cast(self._emit(relax.op.take(weight, indices, 0)), wide)
        if weights is not None:
            scale = self._emit(relax.op.expand_dims(self._cast(weights, wide), 1))
            rows = self._emit(relax.op.multiply(rows, scale))

        def gathered(start: float, added: Any, shape: list[Any], way: str) -> Any:
            # Not ``full``, which TVM does not build of an infinity.
            empty = self._emit(relax.op.broadcast_to(relax.const(start, wide), shape))
            full = self._emit(relax.op.scatter_nd(empty, bag, added, way))
            ends: Any = ([0], [0], [bags], [1])
            return self._emit(relax.op.strided_slice(full, *ends, assume_inbound=True))

        shape = [bags + 1, width]
        if mode == _SUM:
            return self._bags(gathered(0.0, rows, shape, "add"), dtype)
        one = self._emit(relax.op.full([length, 1], relax.const(1.0, wide), wide))
        count = gathered(0.0, one, [bags + 1, 1], "add")
        if mode == _MEAN:
            total = gathered(0.0, rows, shape, "add")
            divisor = self._emit(relax.op.maximum(count, relax.const(1.0, wide)))
            return self._bags(self._emit(relax.op.divide(total, divisor)), dtype)
        largest = gathered(float("-inf"), rows, shape, "max")
        is_empty = self._emit(relax.op.equal(count, relax.const(0.0, wide)))
        found = relax.op.where(is_empty, relax.const(0.0, wide), largest)
        return self._bags(self._emit(found), dtype)

    def _bags(self, value: Any, dtype: str) -> list[Any]:
        return [self._cast(value, dtype)]
