"""TVM's importer of exported PyTorch programs, with corrected converters.

Each docstring describes what TVM's own converter does wrong. Delete a converter here when TVM's
passes the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import tvm
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true
from tvm import relax, tirx
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from relax_tapml._compat import expr_deep_equal, torch_reshape

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
# Of bfloat16 TVM compares the bits in some, and does not build others.
_NOT_IN_BFLOAT16 = frozenset(
    {
        *("sort.default", "argsort.default", "topk.default", "max.dim", "argmax.default"),
        *("argmin.default", "isnan.default", "isinf.default", "median.dim", "median.default"),
    }
)
_NOT_IN_HALF = (
    *("acos.default", "acosh.default", "asin.default", "asinh.default", "atan.default"),
    *("atan2.default", "cosh.default", "sinh.default", "fmod.Tensor", "fmod.Scalar"),
)
_FAR = 1 << 62
_OVERLOADS = ("default", "Tensor", "Scalar", "Tensor_Scalar", "Tensor_Tensor")


class CorrectedImporter(ExportedProgramImporter):  # type: ignore[misc]
    """Converts every node to the dtype and shape that PyTorch recorded for it, or raises."""

    def create_convert_map(self) -> dict[str, Callable[[Node], Any]]:
        """Return the converters by operator name; TVM's own where it is right."""
        stock: dict[str, Callable[[Node], Any]] = super().create_convert_map()
        promoted = {f"{name}.{o}" for name in (*_UNARY, *_BINARY) for o in _OVERLOADS}
        promoted |= {"remainder.Scalar"}
        return {
            **stock,
            **{name: self._promoting(stock[name]) for name in promoted & stock.keys()},
            **dict.fromkeys(("add.Tensor", "add.Scalar"), self._scaled(relax.op.add)),
            **dict.fromkeys(("sub.Tensor", "sub.Scalar"), self._scaled(relax.op.subtract)),
            **dict.fromkeys(("div.Scalar", "div.Tensor", "div.Tensor_mode"), self._div),
            "div.Scalar_mode": self._div,
            "amax.default": self._extreme(relax.op.max),
            "amin.default": self._extreme(relax.op.min),
            **dict.fromkeys(("any.default", "any.dim", "any.dims"), self._any),
            **{
                f"{name}.{overload}": self._compared(operator)
                for name, operator in _COMPARISONS.items()
                for overload in ("Tensor", "Scalar")
            },
            **{name: self._in_float32(stock[name]) for name in _NOT_IN_BFLOAT16 & stock.keys()},
            **{
                name: self._in_float32(stock[name], ("float16", "bfloat16"), is_promoting=True)
                for name in _NOT_IN_HALF
            },
            "mul.Tensor": self._logical(relax.op.logical_and, self._promoting(stock["mul.Tensor"])),
            "maximum.default": self._logical(relax.op.logical_or, stock["maximum.default"]),
            "minimum.default": self._logical(relax.op.logical_and, stock["minimum.default"]),
            **dict.fromkeys(("clamp.default", "clamp.Tensor"), self._clamp),
            "_upsample_bilinear2d_aa.default": self._refused_filter,
            **dict.fromkeys(("bmm.default", "matmul.default", "mm.default"), self._matmul),
        }

    def _promoting(self, stock: Callable[[Node], Any]) -> Callable[[Node], Any]:
        """Compute in the result's dtype: TVM computes ``exp`` of integers, and an integer times
        2.5, in integers.
        """

        def convert(node: Node) -> Any:
            operands = [arg for arg in node.args if isinstance(arg, Node) and _is_tensor(arg)]
            cast = {arg: self._cast(self.env[arg], _dtype(node)) for arg in operands}
            with self._replaced(cast):
                return stock(node)

        return convert

    def _scaled(self, operator: Callable[[Any, Any], Any]) -> Callable[[Node], Any]:
        """Add or subtract ``alpha`` times the second operand, in the result's dtype; TVM leaves
        ``alpha`` out.
        """

        def convert(node: Node) -> Any:
            dtype = _dtype(node)
            first, second = (self._operand(arg, dtype) for arg in node.args[:2])
            if dtype == "bool":
                return self._emit(relax.op.logical_or(first, second))
            alpha: Any = node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)
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
            if _dtype(node) != "bool":
                return stock(node)
            first, second = (self._operand(arg, "bool") for arg in node.args[:2])
            return self._emit(operator(first, second))

        return convert

    def _clamp(self, node: Node) -> Any:
        """Keep to the bounds that there are; TVM compares integers with infinity for others."""
        dtype = _dtype(node)
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
            tensors = [arg for arg in node.args if isinstance(arg, Node) and _is_tensor(arg)]
            narrow = [arg for arg in tensors if _dtype(arg) in dtypes]
            if not narrow:
                return self._promoting(stock)(node) if is_promoting else stock(node)
            with self._replaced({arg: self._cast(self.env[arg], "float32") for arg in narrow}):
                found = stock(node)
            if isinstance(found.ty, relax.TensorType):
                return self._cast(found, _dtype(node))
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

    def _max_pool1d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool1d_with_indices)

    def _max_pool2d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool2d_with_indices)

    def _max_pool3d_with_indices(self, node: Node) -> Any:
        return self._maxima(node, super()._max_pool3d_with_indices)

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

    def _maxima(self, node: Node, stock: Callable[[Node], Any]) -> Any:
        """Return the maxima alone: where they are TVM says zeros."""
        return [self._emit(relax.TupleGetItem(stock(node), 0))]

    def _getitem(self, node: Node) -> Any:
        """Refuse a result that a converter does not have; TVM takes the first one instead."""
        of, place = node.args[:2]
        if isinstance(of, Node) and isinstance(place, int) and place:
            values = self.env.get(of)
            is_one = not isinstance(of.meta.get("val"), torch.Tensor) and _is_one_tensor(values)
            if is_one or (isinstance(values, list) and place >= len(values)):
                raise NotImplementedError(f"the converter of {of.target} has no result {place}")
        return super()._getitem(node)

    def _refused_filter(self, node: Node) -> Any:
        """Refuse antialiasing, which TVM leaves out."""
        raise NotImplementedError(f"{node.target} needs a filter that TVM does not have")

    def _elu(self, node: Node) -> Any:
        """Scale what comes in and what goes out, as SELU and CELU are; TVM ignores both."""
        dtype = _dtype(node)
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
        dtype = _dtype(node)
        condition, *branches = node.args
        chosen = [self._operand(branch, dtype) for branch in branches]
        return self._emit(relax.op.where(self.env[condition], *chosen))

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

    def _div(self, node: Node) -> Any:
        """Divide in the result's dtype: TVM divides integers as integers, and cannot divide float16
        by a number.
        """
        dtype = _dtype(node)
        a, b = (self._operand(arg, dtype) for arg in node.args[:2])
        match node.kwargs.get("rounding_mode"):
            case "floor":
                return self._emit(relax.op.floor_divide(a, b))
            case "trunc" if "float" in dtype:
                return self._emit(relax.op.trunc(self._emit(relax.op.divide(a, b))))
            case _:
                return self._emit(relax.op.divide(a, b))

    def _matmul(self, node: Node) -> Any:
        """Sum in float32 and round once, as PyTorch does; TVM leaves the sum in float32."""
        a, b = (self.env[arg] for arg in node.args)
        return self._product(a, b, _dtype(node))

    def _addmm(self, node: Node) -> Any:
        """As ``_matmul``: TVM adds a float16 bias to a float32 product."""
        bias, a, b = (self.env[arg] for arg in node.args)
        dtype = _dtype(node)
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
        if not _dtype(node).startswith(("float", "bfloat")):
            raise NotImplementedError("averages of integers")
        if divisor is None:
            return stock(node)
        if is_ceiled or len(size) == 1:
            raise NotImplementedError("divisor_override with ceil_mode, or with a square window")
        args = (x, size, stride, padding, False, True)
        plain = SimpleNamespace(args=args, kwargs={}, normalized_arguments=lambda _: (args, {}))
        scale = relax.const(math.prod(size) / divisor, _dtype(node))
        return self._emit(relax.op.multiply(stock(plain), scale))

    def _native_layer_norm(self, node: Node) -> Any:
        """Compute bfloat16 in float32, as PyTorch does; TVM does not lower it."""
        if self.env[node.args[0]].ty.dtype != "bfloat16":
            return super()._native_layer_norm(node)
        operands = [arg for arg in node.args if isinstance(arg, Node)]
        with self._replaced({arg: self._cast(self.env[arg], "float32") for arg in operands}):
            return self._cast(super()._native_layer_norm(node), "bfloat16")

    def _cumsum(self, node: Node) -> Any:
        """Count booleans and small integers in int64; TVM keeps their dtype."""
        dtype = _dtype(node)
        x = self._cast(self.env[node.args[0]], dtype)
        return self._emit(relax.op.cumsum(x, node.args[1], dtype))

    def _topk(self, node: Node) -> Any:
        """Sort where any order is allowed; TVM refuses ``sorted=False``."""
        return super()._topk(SimpleNamespace(args=node.args[:4], kwargs={}))

    def _index_tensor(self, node: Node) -> Any:
        """Count negative indices from the end; TVM reads out of bounds."""
        data: Any = node.args[0]
        indices: Any = node.args[1]
        dims = iter(data.meta["val"].shape)
        wrapped: list[Any] = []
        for index in indices:
            if index is None:
                next(dims)
                wrapped.append(None)
            elif index.meta["val"].dtype is torch.bool:
                for _ in range(index.meta["val"].ndim):
                    next(dims)
                wrapped.append(self.env[index])
            else:
                wrapped.append(self._count_from_end(self.env[index], next(dims)))
        return super()._index_tensor(SimpleNamespace(args=(data, wrapped)))

    def _count_from_end(self, index: Any, size: Any) -> Any:
        """Return ``index`` with ``size`` added where it is negative."""
        if not isinstance(size, int):
            return index  # a symbolic size is no tensor; the comparison with PyTorch remains
        dtype = index.ty.dtype
        is_negative = self._emit(relax.op.less(index, relax.const(0, dtype)))
        from_end = self._emit(relax.op.add(index, relax.const(size, dtype)))
        return self._emit(relax.op.where(is_negative, from_end, index))

    def _empty(self, node: Node) -> Any:
        """Accept sizes that are dimensions; TVM accepts only numbers. The values are zeros."""
        return self._emit(relax.op.zeros(self.retrieve_args(node)[0], _dtype(node)))

    def _reshape(self, node: Node) -> Any:
        """Compare dimensions as expressions; TVM uses ``==`` for symbolic ones, which raises."""
        x, dims = self.retrieve_args(node)
        shape = self.shape_of(x)
        if shape is not None and len(shape) == len(dims) and all(map(_is_same, shape, dims)):
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
            if start == 0 and _is_same(size, end):
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

    def _operand(self, value: Any, dtype: str) -> Any:
        """Return a node's value, which may be a dimension, or a number as a tensor of ``dtype``."""
        if isinstance(value, Node):
            found = self.env[value]
            if _is_tensor(value):
                return self._cast(found, dtype)
            if not isinstance(found, int | float):
                return self._prim_value_to_scalar_tensor(found, dtype)
            value = found
        return relax.const(value, dtype)

    def _cast(self, value: Any, dtype: str) -> Any:
        if str(value.ty.dtype) == dtype:
            return value
        return self._emit(relax.op.astype(value, dtype))

    def _emit(self, value: Any) -> Any:
        return self.block_builder.emit(value)

    @contextmanager
    def _replaced(self, values: Mapping[Node, Any]) -> Iterator[None]:
        """Give nodes other values within the block."""
        saved = {node: self.env[node] for node in values}
        self.env.update(values)
        try:
            yield
        finally:
            self.env.update(saved)


def _dtype(node: Node) -> str:
    """Return the dtype PyTorch recorded, as TVM writes it."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def _is_one_tensor(value: Any) -> bool:
    return isinstance(value, relax.Expr) and isinstance(value.ty, relax.TensorType)


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


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


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two dimensions, numbers or expressions, are equal for all their symbols."""
    if isinstance(a, int | tirx.IntImm) or isinstance(b, int | tirx.IntImm):
        return (
            isinstance(a, int | tirx.IntImm)
            and isinstance(b, int | tirx.IntImm)
            and int(a) == int(b)
        )
    return bool(expr_deep_equal(a, b))
