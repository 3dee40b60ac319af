"""Products of matrices, convolutions and norms, which sum many numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.emitter import Emitter, dtype_of


class Products(Emitter):
    """Sums narrow floats in float32 and rounds once."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        products = ("bmm.default", "matmul.default", "mm.default")
        return {**super().create_convert_map(), **dict.fromkeys(products, self._matmul)}

    def _matmul(self, node: Node) -> Any:
        """Sum in float32 and round once, as PyTorch does; TVM leaves the sum in float32."""
        a, b = (self.env[arg] for arg in node.args)
        return self._product(a, b, dtype_of(node))

    def _addmm(self, node: Node) -> Any:
        """As ``_matmul``: TVM adds a float16 bias to a float32 product."""
        bias, a, b = (self.env[arg] for arg in node.args)
        dtype = dtype_of(node)
        alpha, beta = (node.kwargs.get(name, 1) for name in ("alpha", "beta"))
        product = self._product(a, b, dtype)
        if alpha != 1:
            product = self._emit(relax.op.multiply(product, relax.const(alpha, dtype)))
        if beta == 0:
            return product
        if beta != 1:
            bias = self._emit(relax.op.multiply(bias, relax.const(beta, dtype)))
        return self._emit(relax.op.add(bias, product))

    _baddbmm = _addmm

    def _product(self, a: Any, b: Any, dtype: str) -> Any:
        wide = "float32" if dtype in ("float16", "bfloat16") else dtype
        return self._cast(self._emit(relax.op.matmul(a, b, out_dtype=wide)), dtype)

    def _conv1d_impl(self, x: Any, weight: Any, bias: Any, *rest: Any, **named: Any) -> Any:
        return self._rounded(super()._conv1d_impl(x, weight, None, *rest, **named), x, bias)

    def _conv2d_impl(self, x: Any, weight: Any, bias: Any, *rest: Any, **named: Any) -> Any:
        return self._rounded(super()._conv2d_impl(x, weight, None, *rest, **named), x, bias)

    def _conv3d_impl(self, x: Any, weight: Any, bias: Any, *rest: Any, **named: Any) -> Any:
        return self._rounded(super()._conv3d_impl(x, weight, None, *rest, **named), x, bias)

    def _conv_transpose1d_impl(
        self, x: Any, weight: Any, bias: Any, *rest: Any, **named: Any
    ) -> Any:
        return self._rounded(
            super()._conv_transpose1d_impl(x, weight, None, *rest, **named), x, bias
        )

    def _conv_transpose2d_impl(
        self, x: Any, weight: Any, bias: Any, *rest: Any, **named: Any
    ) -> Any:
        return self._rounded(
            super()._conv_transpose2d_impl(x, weight, None, *rest, **named), x, bias
        )

    def _rounded(self, convolved: Any, x: Any, bias: Any) -> Any:
        """As ``_addmm``: TVM adds a float16 bias to a float32 sum, or leaves it in float32."""
        result = self._cast(convolved, x.ty.dtype)
        if self._is_no_bias(bias):
            return result
        spatial = (1,) * (len(self.shape_of(x)) - 2)
        return self._emit(relax.op.add(result, relax.op.reshape(bias, (1, -1, *spatial))))

    def _native_layer_norm(self, node: Node) -> Any:
        """Compute bfloat16 in float32, as PyTorch does; TVM does not lower it."""
        if self.env[node.args[0]].ty.dtype != "bfloat16":
            return super()._native_layer_norm(node)
        operands = [arg for arg in node.args if isinstance(arg, Node)]
        with self._replaced({arg: self._cast(self.env[arg], "float32") for arg in operands}):
            return self._cast(super()._native_layer_norm(node), "bfloat16")
