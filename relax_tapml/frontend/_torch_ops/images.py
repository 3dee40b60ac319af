"""Poolings and other sizes of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.emitter import Emitter, dtype_of


class Images(Emitter):
    """Pools and resizes as PyTorch does, or refuses."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        return {
            **super().create_convert_map(),
            "_upsample_bilinear2d_aa.default": self._refused_filter,
        }

    def _max_pool1d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool1d_with_indices)

    def _max_pool2d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool2d_with_indices)

    def _max_pool3d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool3d_with_indices)

    def _maxima(self, node: Node, stock: Callable[[Node], Any]) -> Any:
        """Return the maxima alone: where they are TVM says zeros."""
        return [self._emit(relax.TupleGetItem(stock(node), 0))]

    def _avg_pool1d(self, node: Node) -> Any:
        return self._averages(node, super()._avg_pool1d)

    def _avg_pool2d(self, node: Node) -> Any:
        return self._averages(node, super()._avg_pool2d)

    def _avg_pool3d(self, node: Node) -> Any:
        return self._averages(node, super()._avg_pool3d)

    def _averages(self, node: Node, stock: Callable[[Any], Any]) -> Any:
        """Divide sums by ``divisor_override``, which TVM ignores; refuse means of integers, which
        it rounds otherwise, and divisors where windows end outside of the padding.
        """
        given: Any = node.args
        defaults: Any = (None, [], 0, False, True, None)
        values: Any = (*given, *defaults[len(given) - 1 :])
        x, size, stride, padding, is_ceiled, _, divisor = values
        if not dtype_of(node).startswith(("float", "bfloat")):
            raise NotImplementedError("averages of integers")
        if divisor is None:
            return stock(node)
        if is_ceiled or len(size) == 1:
            raise NotImplementedError("divisor_override with ceil_mode, or with a square window")
        args = (x, size, stride, padding, False, True)
        plain = SimpleNamespace(args=args, kwargs={}, normalized_arguments=lambda _: (args, {}))
        scale = relax.const(math.prod(size) / divisor, dtype_of(node))
        return self._emit(relax.op.multiply(stock(plain), scale))

    def _upsample_nearest2d(self, node: Node) -> Any:
        """Take the elements that PyTorch takes; TVM rounds to others unless a size is a multiple of
        the old one.
        """
        of: Any = node.args[0]
        shape = of.meta["val"].shape
        if not all(isinstance(extent, int) for extent in shape[2:]):
            raise NotImplementedError("nearest neighbours along a symbolic dimension")
        x = self.env[of]
        for axis in (2, 3):
            places = torch.arange(shape[axis], dtype=torch.float32)
            places = places.reshape([1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1])
            image = places.expand(1, 1, *shape[2:])
            found = torch.ops.aten.upsample_nearest2d.vec(image, *node.args[1:], **node.kwargs)
            taken = (found[0, 0, :, 0] if axis == 2 else found[0, 0, 0]).long()
            x = self._emit(relax.op.take(x, relax.const(taken.numpy(), "int64"), axis))
        return x

    def _upsample_bilinear2d(self, node: Node) -> Any:
        self._check_scales(node)
        return super()._upsample_bilinear2d(node)

    def _upsample_bicubic2d(self, node: Node) -> Any:
        self._check_scales(node)
        return super()._upsample_bicubic2d(node)

    def _check_scales(self, node: Node) -> None:
        """Refuse scales that no whole size has: TVM uses the ratio of sizes instead."""
        given: Any = node.args
        values: Any = (*given, *(None,) * (4 - len(given)))
        of, size, _, scales = values
        if size is None and isinstance(of, Node) and isinstance(scales, list | tuple):
            for extent, scale in zip(of.meta["val"].shape[2:], scales, strict=True):
                if not isinstance(extent, int) or extent * scale != int(extent * scale):
                    raise NotImplementedError(f"a scale of {scale} for a dimension of {extent}")

    def _refused_filter(self, node: Node) -> Any:
        """Refuse antialiasing, which TVM leaves out."""
        raise NotImplementedError(f"{node.target} needs a filter that TVM does not have")
