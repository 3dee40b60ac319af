"""Products and convolutions of quantised integers, which TVM's importer lacks.

Integers are multiplied and summed as int32, which is exact; the sum is scaled in float32 and
rounded once, as onnxruntime does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from relax_tapml.frontend._onnx.onnx_call import OnnxCall


def q_linear_matmul(call: OnnxCall) -> Any:
    """Return a ``QLinearMatMul``: a, its scale and zero point, b likewise, those of the result."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = call.inputs[:8]
    left = _centred(call, a, _rows(call, a_zero))
    right = _centred(call, b, b_zero)
    total = call.emit(relax.op.matmul(left, right, out_dtype="int32"))
    factor = call.emit(relax.op.multiply(_rows(call, _wide(call, a_scale)), _wide(call, b_scale)))
    return _requantised(call, total, factor, scale, zero)


def q_linear_conv(call: OnnxCall) -> Any:
    """Return a ``QLinearConv``: as ``q_linear_matmul`` for data and weights, and a bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = call.inputs[:8]
    total = _convolved(call, x, x_zero, w, w_zero)
    rank = x.ty.ndim
    if len(call.inputs) > 8 and call.inputs[8] is not None:
        bias = call.emit(relax.op.reshape(call.inputs[8], (-1, *(1,) * (rank - 2))))
        total = call.emit(relax.op.add(total, bias))
    by_channel = _channels(call, _wide(call, w_scale), rank - 2)
    factor = call.emit(relax.op.multiply(_wide(call, x_scale), by_channel))
    return _requantised(call, total, factor, scale, zero)


def conv_integer(call: OnnxCall) -> Any:
    """Return a ``ConvInteger``: data, weights, and their zero points."""
    x, w, x_zero, w_zero = [*call.inputs, None, None][:4]
    return _convolved(call, x, x_zero, w, w_zero)


def _convolved(call: OnnxCall, x: Any, x_zero: Any, w: Any, w_zero: Any) -> Any:
    data = _centred(call, x, x_zero)
    weights = _centred(call, w, _channels(call, w_zero, x.ty.ndim - 1))
    inputs = onnx_frontend.onnx_input([data, weights, None])
    convert = onnx_frontend.Conv.get_converter(max(call.opset, 11))
    return call.emit(convert(call.builder, inputs, dict(call.attributes), [{}, {}]))


def _centred(call: OnnxCall, value: Any, zero: Any) -> Any:
    """Return quantised values less their zero point, as int32."""
    wide = call.emit(relax.op.astype(value, "int32"))
    if zero is None:
        return wide
    return call.emit(relax.op.subtract(wide, call.emit(relax.op.astype(zero, "int32"))))


def _rows(call: OnnxCall, value: Any) -> Any:
    """Return a scale or a zero point for each row as a column."""
    if value.ty.ndim != 1:
        return value
    return call.emit(relax.op.reshape(value, (-1, 1)))


def _channels(call: OnnxCall, value: Any, after: int) -> Any:
    """Return a scale or a zero point for each channel with dimensions after it."""
    if value is None or value.ty.ndim != 1:
        return value
    return call.emit(relax.op.reshape(value, (-1, *(1,) * after)))


def _wide(call: OnnxCall, value: Any) -> Any:
    return (
        value if str(value.ty.dtype) == "float32" else call.emit(relax.op.astype(value, "float32"))
    )


def _requantised(call: OnnxCall, total: Any, factor: Any, scale: Any, zero: Any) -> Any:
    op, emit, dtype = relax.op, call.emit, str(zero.ty.dtype)
    limits = np.iinfo(dtype)
    ratio = emit(op.divide(factor, _wide(call, scale)))
    scaled = emit(op.round(emit(op.multiply(emit(op.astype(total, "float32")), ratio))))
    moved = emit(op.add(scaled, emit(op.astype(zero, "float32"))))
    return op.astype(emit(op.clip(moved, limits.min, limits.max)), dtype)
