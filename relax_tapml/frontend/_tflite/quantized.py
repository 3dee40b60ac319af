"""Operators of 8-bit integers, computed with integers as TFLite's reference kernels do.

TVM's converters compute with floats and round the result, which is one step off where a float falls
on the other side of a half: in a few values of each operator, and so in most models. Here sums are
exact, and are scaled by a fixed-point multiplier with the roundings of ``lite/kernels/internal``:
results are equal bit for bit. The scheme is that of Jacob et al., arXiv 1712.05877.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from tvm import relax
from tvm.relax.frontend.tflite import tflite_frontend

from relax_tapml.arrays import Array
from relax_tapml.frontend._tflite.operators import dtype_of

_SUM_SHIFT = 20
"""Of the operands of a sum, before they get one scale."""


@dataclass(frozen=True)
class _Scaled:
    """The scale and the zero point of a tensor of one scale."""

    scale: float
    zero: int
    dtype: str

    @property
    def limits(self) -> tuple[int, int]:
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def place(self, value: float) -> int:
        """Return the integer that stands for a value."""
        quotient = float(np.float32(value) / np.float32(self.scale))
        return self.zero + math.floor(abs(quotient) + 0.5) * (1 if quotient >= 0 else -1)


def is_8_bit(converter: Any, op: Any) -> bool:
    """Whether the first input and output are quantised integers of 8 bits."""
    tensors = [*converter.get_input_tensors(op)[:1], *converter.get_output_tensors(op)[:1]]
    return all(one.qnn_params and dtype_of(one.tensor) in ("int8", "uint8") for one in tensors)


def _scaled(tensor: Any) -> _Scaled:
    given = tensor.tensor.Quantization()
    if given.ScaleLength() != 1:
        raise ValueError("a value has several scales; only weights may have")
    zero = int(given.ZeroPoint(0)) if given.ZeroPointLength() else 0
    return _Scaled(float(given.Scale(0)), zero, dtype_of(tensor.tensor))


def _scales(tensor: Any) -> list[float]:
    given = tensor.tensor.Quantization()
    return [float(given.Scale(at)) for at in range(given.ScaleLength())]


def _multiplier(real: float) -> tuple[int, int]:
    """Return a multiplier of 31 bits and a shift to the left; TFLite's ``QuantizeMultiplier``."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    fixed = math.floor(fraction * (1 << 31) + 0.5)
    if fixed == 1 << 31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def _int64(value: Any) -> Any:
    return relax.const(np.asarray(value, "int64"), "int64")


def _times(value: Any, reals: Sequence[float]) -> Any:
    """Return int64 integers times one real number, or one for each place of the last axis."""
    pairs = [_multiplier(real) for real in reals]
    one = len(pairs) == 1

    def column(values: list[int]) -> Any:
        return _int64(values[0] if one else values)

    op = relax.op
    fixed, left = column([m for m, _ in pairs]), column([1 << max(s, 0) for _, s in pairs])
    right = column([max(-s, 0) for _, s in pairs])
    half = column([(1 << max(-s, 0)) >> 1 for _, s in pairs])
    product = op.multiply(op.multiply(value, left), fixed)
    high = op.right_shift(op.add(product, _int64(1 << 30)), _int64(31))
    # To the nearest, halves away from zero.
    up = op.right_shift(op.add(high, half), right)
    down = op.negative(op.right_shift(op.subtract(half, high), right))
    return op.where(op.greater_equal(high, _int64(0)), up, down)


def _centred(value: Any, zero: int, dtype: str) -> Any:
    value = relax.op.astype(value, dtype)
    return relax.op.subtract(value, relax.const(zero, dtype)) if zero else value


def _finished(value: Any, output: _Scaled, activation: int) -> Any:
    """Add the zero point, apply the fused activation, and narrow."""
    low, high = output.limits
    kinds = tflite.ActivationFunctionType
    if activation == kinds.RELU:
        low = max(low, output.place(0))
    elif activation == kinds.RELU6:
        low, high = max(low, output.place(0)), min(high, output.place(6))
    elif activation == kinds.RELU_N1_TO_1:
        low, high = max(low, output.place(-1)), min(high, output.place(1))
    elif activation != kinds.NONE:
        raise ValueError(f"its fused activation, number {activation}, is not for integers")
    value = relax.op.add(value, _int64(output.zero))
    value = relax.op.minimum(relax.op.maximum(value, _int64(low)), _int64(high))
    return relax.op.astype(value, output.dtype)


def _weight(converter: Any, tensor: Any, arranged: Callable[[Array], Array]) -> Any:
    """Return the integers of a weight less their zero point, as int32."""
    given = tensor.tensor.Quantization()
    zeros = {int(given.ZeroPoint(at)) for at in range(given.ZeroPointLength())} or {0}
    if len(zeros) != 1:
        raise ValueError("the channels of its weight have different zero points")
    dtype = dtype_of(tensor.tensor)
    array = arranged(converter.get_tensor_value(tensor))
    name = tensor.tensor.Name()
    return _centred(
        converter.exp_tab.new_const(array, dtype=dtype, source_name=name), zeros.pop(), "int32"
    )


def _with_bias(converter: Any, total: Any, tensors: Sequence[Any]) -> Any:
    if len(tensors) < 3 or tensors[2].tensor_idx < 0:
        return total
    if dtype_of(tensors[2].tensor) != "int32":
        raise ValueError(f"its bias is {dtype_of(tensors[2].tensor)}, expected int32")
    return relax.op.add(total, converter.get_tensor_expr(tensors[2]))


def _rescaled(total: Any, tensors: Sequence[Any], output: Any, activation: int) -> Any:
    given, result = _scaled(tensors[0]), _scaled(output)
    reals = [given.scale * scale / result.scale for scale in _scales(tensors[1])]
    return _finished(_times(relax.op.astype(total, "int64"), reals), result, activation)


def convolution(converter: Any, op: Any, *, is_depthwise: bool) -> Any:
    """Convolve exactly; per tensor or per channel."""
    kind = tflite.DepthwiseConv2DOptions if is_depthwise else tflite.Conv2DOptions
    options = converter._get_builtin_options(op, kind)
    tensors, (output,) = converter.get_input_tensors(op), converter.get_output_tensors(op)
    _, height, width, channels = map(int, converter.get_tensor_shape(tensors[0]))
    shape = list(map(int, converter.get_tensor_shape(tensors[1])))
    steps = [options.StrideH(), options.StrideW()]
    dilation = [options.DilationHFactor(), options.DilationWFactor()]
    padding = [0, 0, 0, 0]
    if options.Padding() == tflite.Padding.SAME:
        (top, bottom), (left, right) = (
            tflite_frontend.get_pad_value(size, gap * (kernel - 1) + 1, step)
            for size, gap, kernel, step in zip(
                (height, width), dilation, shape[1:3], steps, strict=True
            )
        )
        padding = [top, left, bottom, right]
    if is_depthwise and channels > 1:
        layout, groups = "HWOI", channels
        weight = _weight(converter, tensors[1], lambda a: a.reshape(*shape[1:], 1))
    elif is_depthwise:
        layout, groups = "HWIO", 1
        weight = _weight(converter, tensors[1], lambda a: a.reshape(*shape[1:3], 1, shape[3]))
    else:
        layout, groups = "HWIO", channels // shape[3]
        weight = _weight(converter, tensors[1], lambda a: a.transpose(1, 2, 3, 0))
    total = relax.op.nn.conv2d(
        _centred(converter.get_tensor_expr(tensors[0]), _scaled(tensors[0]).zero, "int32"),
        weight,
        strides=steps,
        padding=padding,
        dilation=dilation,
        groups=groups,
        data_layout="NHWC",
        kernel_layout=layout,
    )
    total = _with_bias(converter, total, tensors)
    return _rescaled(total, tensors, output, options.FusedActivationFunction())


def fully_connected(converter: Any, op: Any) -> Any:
    """Multiply matrices exactly."""
    options = converter._get_builtin_options(op, tflite.FullyConnectedOptions)
    tensors, (output,) = converter.get_input_tensors(op), converter.get_output_tensors(op)
    weight = _weight(converter, tensors[1], lambda a: a.transpose(1, 0))
    data = _centred(converter.get_tensor_expr(tensors[0]), _scaled(tensors[0]).zero, "int32")
    rows, columns = map(int, converter.get_tensor_shape(tensors[1]))
    shape = list(map(int, converter.get_tensor_shape(tensors[0])))
    data = relax.op.reshape(data, [math.prod(shape) // columns, columns])
    total = relax.op.matmul(converter.bb.normalize(data), weight)
    total = _with_bias(converter, total, tensors)
    result = _rescaled(total, tensors, output, options.FusedActivationFunction())
    if options.KeepNumDims():
        result = relax.op.reshape(result, [*shape[:-1], rows])
    return result


def total(converter: Any, op: Any, *, is_difference: bool) -> Any:
    """Add or subtract: both operands are brought to one finer scale."""
    kind = tflite.SubOptions if is_difference else tflite.AddOptions
    options = converter._get_builtin_options(op, kind)
    tensors = converter.get_input_tensors(op)
    result = _scaled(converter.get_output_tensors(op)[0])
    given = [_scaled(tensor) for tensor in tensors]
    twice = 2 * max(one.scale for one in given)
    left, right = (
        _times(
            relax.op.multiply(
                _centred(converter.get_tensor_expr(tensor), one.zero, "int64"),
                _int64(1 << _SUM_SHIFT),
            ),
            [one.scale / twice],
        )
        for tensor, one in zip(tensors, given, strict=True)
    )
    value = relax.op.subtract(left, right) if is_difference else relax.op.add(left, right)
    value = _times(value, [twice / ((1 << _SUM_SHIFT) * result.scale)])
    return _finished(value, result, options.FusedActivationFunction())


def product(converter: Any, op: Any) -> Any:
    """Multiply element by element."""
    options = converter._get_builtin_options(op, tflite.MulOptions)
    tensors = converter.get_input_tensors(op)
    result = _scaled(converter.get_output_tensors(op)[0])
    given = [_scaled(tensor) for tensor in tensors]
    left, right = (
        _centred(converter.get_tensor_expr(tensor), one.zero, "int64")
        for tensor, one in zip(tensors, given, strict=True)
    )
    # TFLite computes this one with floats.
    scales = [np.float32(one.scale) for one in (*given, result)]
    real = float(scales[0] * scales[1] / scales[2])
    value = _times(relax.op.multiply(left, right), [real])
    return _finished(value, result, options.FusedActivationFunction())


def average_pool(converter: Any, op: Any) -> Any:
    """Average, halves away from zero; TVM's converter rounds them to even numbers."""
    options = converter._get_builtin_options(op, tflite.Pool2DOptions)
    (tensor,), (output,) = converter.get_input_tensors(op), converter.get_output_tensors(op)
    _, height, width, _ = map(int, converter.get_tensor_shape(tensor))
    kernel = [options.FilterHeight(), options.FilterWidth()]
    steps = [options.StrideH(), options.StrideW()]
    padding = [0, 0, 0, 0]
    if options.Padding() == tflite.Padding.SAME:
        top, bottom = tflite_frontend.get_pad_value(height, kernel[0], steps[0])
        left, right = tflite_frontend.get_pad_value(width, kernel[1], steps[1])
        padding = [top, left, bottom, right]
    op_ = relax.op
    mean = op_.nn.avg_pool2d(
        op_.astype(converter.get_tensor_expr(tensor), "float32"),
        pool_size=kernel,
        strides=steps,
        padding=padding,
        layout="NHWC",
        count_include_pad=False,
    )
    half, zero = relax.const(0.5, "float32"), relax.const(0.0, "float32")
    up = op_.floor(op_.add(mean, half))
    down = op_.negative(op_.floor(op_.subtract(half, mean)))
    value = op_.astype(op_.where(op_.greater_equal(mean, zero), up, down), "int64")
    result = _scaled(output)
    value = op_.subtract(value, _int64(result.zero))
    return _finished(value, result, options.FusedActivationFunction())


def pad(converter: Any, op: Any) -> Any:
    """Pad with what stands for zero."""
    tensor, widths, *_ = converter.get_input_tensors(op)
    given = _scaled(tensor)
    if given != _scaled(converter.get_output_tensors(op)[0]):
        raise ValueError("the scales of its input and output differ")
    flat = [int(width) for width in converter.get_tensor_value(widths).reshape(-1)]
    return relax.op.nn.pad(converter.get_tensor_expr(tensor), flat, pad_value=given.zero)
