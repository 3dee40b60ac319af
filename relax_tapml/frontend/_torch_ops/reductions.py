"""Extremes, sums along an axis, and orders."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.elementwise import Elementwise
from relax_tapml.frontend._torch_ops.emitter import dtype_of

# Of bfloat16 TVM compares the bits in some, and does not build others.
_NOT_IN_BFLOAT16 = frozenset(
    {
        *("sort.default", "argsort.default", "topk.default", "max.dim", "argmax.default"),
        *("argmin.default", "isnan.default", "isinf.default", "median.dim", "median.default"),
    }
)


class Reductions(Elementwise):
    """Reduces and orders by value."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        stock = super().create_convert_map()
        return {
            **stock,
            "amax.default": self._extreme(relax.op.max),
            "amin.default": self._extreme(relax.op.min),
            **dict.fromkeys(("any.default", "any.dim", "any.dims"), self._any),
            **{name: self._in_float32(stock[name]) for name in _NOT_IN_BFLOAT16 & stock.keys()},
        }

    def _extreme(self, operator: Callable[..., Any]) -> Callable[[Node], Any]:
        """Reduce along any number of axes; TVM has no converter."""

        def convert(node: Node) -> Any:
            given: Any = (*self.retrieve_args(node), *((), False)[len(node.args) - 1 :])
            x, dims, is_kept = given
            return self._emit(operator(x, list(dims) or None, keepdims=is_kept))

        return convert

    def _any(self, node: Node) -> Any:
        """Compare with zero first; TVM returns the largest value of what is no boolean."""
        given: Any = (*self.retrieve_args(node), *(None, False)[len(node.args) - 1 :])
        x, dims, is_kept = given
        if x.ty.dtype != "bool":
            x = self._emit(relax.op.not_equal(x, relax.const(0, x.ty.dtype)))
        counted = self._emit(relax.op.astype(x, "int8"))
        return self._cast(self._emit(relax.op.max(counted, dims, keepdims=is_kept)), "bool")

    def _cumsum(self, node: Node) -> Any:
        """Count booleans and small integers in int64; TVM keeps their dtype."""
        dtype = dtype_of(node)
        x = self._cast(self.env[node.args[0]], dtype)
        return self._emit(relax.op.cumsum(x, node.args[1], dtype))

    def _topk(self, node: Node) -> Any:
        """Sort where any order is allowed; TVM refuses ``sorted=False``."""
        return super()._topk(SimpleNamespace(args=node.args[:4], kwargs={}))
