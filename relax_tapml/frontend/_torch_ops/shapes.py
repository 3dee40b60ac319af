"""Tensors of other shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch.fx import Node
from tvm import relax

from relax_tapml._compat import torch_reshape
from relax_tapml.frontend._torch_ops.emitter import Emitter, dtype_of, is_same


class Shapes(Emitter):
    """Accepts symbolic dimensions, and cuts windows."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        return {**super().create_convert_map(), "unfold.default": self._unfold}

    def _empty(self, node: Node) -> Any:
        """Accept sizes that are dimensions; TVM accepts only numbers. The values are zeros."""
        return self._emit(relax.op.zeros(self.retrieve_args(node)[0], dtype_of(node)))

    def _reshape(self, node: Node) -> Any:
        """Compare dimensions as expressions; TVM uses ``==`` for symbolic ones, which raises."""
        x, dims = self.retrieve_args(node)
        shape = self.shape_of(x)
        if shape is not None and len(shape) == len(dims) and all(map(is_same, shape, dims)):
            return x
        return torch_reshape(self, x, list(dims))

    def _repeat(self, node: Node) -> Any:
        """Repeat as often as a dimension requires; TVM accepts only numbers."""
        x, repeats = self.retrieve_args(node)
        if all(isinstance(repeat, int) for repeat in repeats):
            return self._emit(relax.op.tile(x, repeats))
        shape = [1] * (len(repeats) - len(self.shape_of(x))) + list(self.shape_of(x))
        # Each dimension n gets a dimension r before it, for the repeats: (r, n) -> r * n.
        apart = self._emit(relax.op.reshape(x, [d for n in shape for d in (1, n)]))
        wide = [d for pair in zip(repeats, shape, strict=True) for d in pair]
        repeated = self._emit(relax.op.broadcast_to(apart, wide))
        return self._emit(
            relax.op.reshape(repeated, [r * n for r, n in zip(repeats, shape, strict=True)])
        )

    def _unfold(self, node: Node) -> Any:
        """Take the windows of an axis, which may overlap; TVM has no converter."""
        x, axis, size, step = self.retrieve_args(node)
        shape = list(self.shape_of(x))
        if not shape:
            raise NotImplementedError("windows of a tensor without dimensions")
        axis %= len(shape)
        count = (shape[axis] - size) // step + 1
        starts = self._emit(relax.op.arange(0, count, 1, "int64"))
        starts = self._emit(relax.op.multiply(starts, relax.const(step, "int64")))
        starts = self._emit(relax.op.expand_dims(starts, 1))
        places = self._emit(relax.op.add(starts, relax.const(np.arange(size), "int64")))
        windows = self._emit(relax.op.take(x, places, axis))
        order = [at for at in range(len(shape) + 1) if at != axis + 1] + [axis + 1]
        return self._emit(relax.op.permute_dims(windows, order))
