"""Arithmetic, comparisons and functions of single elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.emitter import Emitter, dtype_of, is_tensor

_UNARY = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh"),
    *("erf", "exp", "log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sigmoid", "sqrt"),
    *("tan", "tanh"),
)
_BINARY = ("mul", "pow")
_COMPARISONS = {
    "eq": relax.op.equal,
    "ne": relax.op.not_equal,
    "lt": relax.op.less,
    "le": relax.op.less_equal,
    "gt": relax.op.greater,
    "ge": relax.op.greater_equal,
}
_NOT_IN_HALF = (
    *("acos.default", "acosh.default", "asin.default", "asinh.default", "atan.default"),
    *("atan2.default", "cosh.default", "sinh.default", "fmod.Tensor", "fmod.Scalar"),
)
_OVERLOADS = ("default", "Tensor", "Scalar", "Tensor_Scalar", "Tensor_Tensor")


class Elementwise(Emitter):
    """Computes elements in the dtype that PyTorch does."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name."""
        stock = super().create_convert_map()
        promoted = {f"{name}.{o}" for name in (*_UNARY, *_BINARY) for o in _OVERLOADS}
        promoted |= {"remainder.Scalar"}
        return {
            **stock,
            **{name: self._promoting(stock[name]) for name in promoted & stock.keys()},
            **dict.fromkeys(("add.Tensor", "add.Scalar"), self._scaled(relax.op.add)),
            **dict.fromkeys(("sub.Tensor", "sub.Scalar"), self._scaled(relax.op.subtract)),
            **dict.fromkeys(("div.Scalar", "div.Tensor", "div.Tensor_mode"), self._div),
            "div.Scalar_mode": self._div,
            **{
                f"{name}.{overload}": self._compared(operator)
                for name, operator in _COMPARISONS.items()
                for overload in ("Tensor", "Scalar")
            },
            **{
                name: self._in_float32(stock[name], ("float16", "bfloat16"), is_promoting=True)
                for name in _NOT_IN_HALF
            },
            "mul.Tensor": self._logical(relax.op.logical_and, self._promoting(stock["mul.Tensor"])),
            "maximum.default": self._logical(relax.op.logical_or, stock["maximum.default"]),
            "minimum.default": self._logical(relax.op.logical_and, stock["minimum.default"]),
            **dict.fromkeys(("clamp.default", "clamp.Tensor"), self._clamp),
        }

    def _promoting(self, stock: Callable[[Node], Any]) -> Callable[[Node], Any]:
        """Compute in the result's dtype: TVM computes ``exp`` of integers, and an integer times
        2.5, in integers.
        """

        def convert(node: Node) -> Any:
            operands = [arg for arg in node.args if isinstance(arg, Node) and is_tensor(arg)]
            cast = {arg: self._cast(self.env[arg], dtype_of(node)) for arg in operands}
            with self._replaced(cast):
                return stock(node)

        return convert

    def _scaled(self, operator: Callable[[Any, Any], Any]) -> Callable[[Node], Any]:
        """Add or subtract ``alpha`` times the second operand, in the result's dtype; TVM leaves
        ``alpha`` out.
        """

        def convert(node: Node) -> Any:
            dtype = dtype_of(node)
            first, second = (self._operand(arg, dtype) for arg in node.args[:2])
            alpha: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)
            if dtype == "bool":
                factor = relax.const(bool(alpha), "bool")
                second = self._emit(relax.op.logical_and(second, factor))
                return self._emit(relax.op.logical_or(first, second))
            if alpha != 1:
                second = self._emit(relax.op.multiply(second, self._operand(alpha, dtype)))
            return self._emit(operator(first, second))

        return convert

    def _compared(self, operator: Callable[[Any, Any], Any]) -> Callable[[Node], Any]:
        """Compare in the dtype that PyTorch does; TVM rounds a number to the tensor's dtype, so
        that ``x > 2.5`` of integers becomes ``x > 2``, and cannot compare booleans.
        """

        def convert(node: Node) -> Any:
            given = [arg.meta["val"] if isinstance(arg, Node) else arg for arg in node.args[:2]]
            given = [2 if isinstance(arg, torch.SymInt) else arg for arg in given]
            common = str(torch.result_type(*given)).removeprefix("torch.")
            dtype = "int8" if common == "bool" else common
            first, second = (self._operand(arg, dtype) for arg in node.args[:2])
            return self._emit(operator(first, second))

        return convert

    def _logical(
        self, operator: Callable[[Any, Any], Any], stock: Callable[[Node], Any]
    ) -> Callable[[Node], Any]:
        """Compute booleans as such; TVM does not build their product, maximum and minimum."""

        def convert(node: Node) -> Any:
            if dtype_of(node) != "bool":
                return stock(node)
            first, second = (self._operand(arg, "bool") for arg in node.args[:2])
            return self._emit(operator(first, second))

        return convert

    def _clamp(self, node: Node) -> Any:
        """Keep to the bounds that there are; TVM compares integers with infinity for others."""
        dtype = dtype_of(node)
        value = self._operand(node.args[0], dtype)
        for at, (name, operator) in enumerate(
            (("min", relax.op.maximum), ("max", relax.op.minimum)), start=1
        ):
            bound: Any = node.args[at] if len(node.args) > at else node.kwargs.get(name)
            if bound is not None:
                value = self._emit(operator(value, self._operand(bound, dtype)))
        return value

    def _in_float32(
        self,
        stock: Callable[[Node], Any],
        dtypes: tuple[str, ...] = ("bfloat16",),
        *,
        is_promoting: bool = False,
    ) -> Callable[[Node], Any]:
        """Compute narrow floats in float32, which has all of their values, and round once; TVM
        orders bfloat16 by its bits, and has no arcs and hyperbolic functions of float16.
        """

        def convert(node: Node) -> Any:
            tensors = [arg for arg in node.args if isinstance(arg, Node) and is_tensor(arg)]
            narrow = [arg for arg in tensors if dtype_of(arg) in dtypes]
            if not narrow:
                return self._promoting(stock)(node) if is_promoting else stock(node)
            with self._replaced({arg: self._cast(self.env[arg], "float32") for arg in narrow}):
                found = stock(node)
            if isinstance(found.ty, relax.TensorType):
                return self._cast(found, dtype_of(node))
            fields = [
                self._emit(relax.TupleGetItem(found, at)) for at in range(len(found.ty.fields))
            ]
            values: Any = node.meta["val"]
            results = [str(value.dtype).removeprefix("torch.") for value in values]
            return self._emit(
                relax.Tuple(
                    [self._cast(one, dtype) for one, dtype in zip(fields, results, strict=True)]
                )
            )

        return convert

    def _elu(self, node: Node) -> Any:
        """Scale what comes in and what goes out, as SELU and CELU are; TVM ignores both."""
        dtype = dtype_of(node)
        defaults: Any = (1.0, 1.0, 1.0)
        given: Any = (*node.args, *defaults[len(node.args) - 1 :])
        x = self._cast(self.env[given[0]], dtype)
        alpha, scale, input_scale = (relax.const(value, dtype) for value in given[1:])
        zero = relax.const(0, dtype)
        # No larger argument is chosen, and it would overflow.
        least = relax.op.multiply(relax.op.minimum(x, zero), input_scale)
        negative = relax.op.subtract(relax.op.exp(self._emit(least)), relax.const(1, dtype))
        below = self._emit(relax.op.multiply(self._emit(negative), alpha))
        # A NaN is not below zero, and stays.
        chosen = self._emit(relax.op.where(relax.op.less_equal(x, zero), below, x))
        return self._emit(relax.op.multiply(chosen, scale))

    def _where(self, node: Node) -> Any:
        """Choose in the result's dtype; TVM refuses branches of two dtypes."""
        dtype = dtype_of(node)
        condition, *branches = node.args
        chosen = [self._operand(branch, dtype) for branch in branches]
        return self._emit(relax.op.where(self.env[condition], *chosen))

    def _div(self, node: Node) -> Any:
        """Divide in the result's dtype: TVM divides integers as integers, and cannot divide float16
        by a number.
        """
        dtype = dtype_of(node)
        a, b = (self._operand(arg, dtype) for arg in node.args[:2])
        match node.kwargs.get("rounding_mode"):
            case "floor":
                return self._emit(relax.op.floor_divide(a, b))
            case "trunc" if "float" in dtype:
                return self._emit(relax.op.trunc(self._emit(relax.op.divide(a, b))))
            case _:
                return self._emit(relax.op.divide(a, b))
