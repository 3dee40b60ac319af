"""Converters in place of those of TVM that are wrong.

Each gets TVM's converter, whose methods give tensors and values, and the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tflite
from tvm import relax

from relax_tapml.frontend._tflite.operators import dtype_of
from relax_tapml.frontend._tflite.quantized import (
    average_pool,
    convolution,
    fully_connected,
    is_8_bit,
    pad,
    product,
    total,
)

Convert = Callable[..., Any]


def batch_matmul(converter: Any, op: Any) -> Any:
    """Multiply matrices; TVM reads the shape of a call that has none yet where ranks differ."""
    options = converter._get_builtin_options(op, tflite.BatchMatMulOptions)
    operands = []
    for tensor, is_turned in zip(
        converter.get_input_tensors(op), (options.AdjX(), options.AdjY()), strict=True
    ):
        operand = converter.get_tensor_expr(tensor)
        if is_turned:
            *batch, rows, columns = range(operand.ty.ndim)
            operand = relax.op.permute_dims(operand, [*batch, columns, rows])
        operands.append(operand)
    return relax.op.matmul(*operands)


def expand_dims(converter: Any, op: Any) -> Any:
    """Add an axis; TVM passes ``expand_dims`` an argument that it does not have."""
    data, axis = converter.get_input_tensors(op)
    at = int(np.asarray(converter.get_tensor_value(axis)).reshape(-1)[0])
    return relax.op.expand_dims(converter.get_tensor_expr(data), at)


def dequantize(converter: Any, op: Any) -> Any:
    """Return the values of integers, or of float16, which TVM takes from weights of the file only.

    Those may be stored sparsely, too, or be computed.
    """
    (given,) = converter.get_input_tensors(op)
    data = converter.get_tensor_expr(given)
    if dtype_of(given.tensor) == "float16":
        return relax.op.astype(data, "float32")
    return converter.dequantize(data, given)


def _exact(integers: Convert, stock: Convert) -> Convert:
    """Return a converter that takes 8-bit integers as TFLite does, and leaves the rest to TVM."""

    def convert(converter: Any, op: Any) -> Any:
        chosen = integers if is_8_bit(converter, op) else stock
        return chosen(converter, op)

    return convert


def _elementwise(operation: Callable[..., Any]) -> Convert:
    return lambda converter, op: converter._convert_elemwise(op, operation)


CONVERTERS: dict[str, Convert] = {
    "ADD": _exact(partial(total, is_difference=False), _elementwise(relax.op.add)),
    "AVERAGE_POOL_2D": _exact(
        average_pool, lambda converter, op: converter.convert_pool2d(op, "average")
    ),
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": _exact(
        partial(convolution, is_depthwise=False),
        lambda converter, op: converter.convert_conv(op, "conv2d"),
    ),
    "DEPTHWISE_CONV_2D": _exact(
        partial(convolution, is_depthwise=True),
        lambda converter, op: converter.convert_conv(op, "depthwise"),
    ),
    "DEQUANTIZE": dequantize,
    "EXPAND_DIMS": expand_dims,
    "FULLY_CONNECTED": _exact(
        fully_connected, lambda converter, op: converter.convert_fully_connected(op)
    ),
    "MUL": _exact(product, _elementwise(relax.op.multiply)),
    "PAD": _exact(pad, lambda converter, op: converter.convert_pad(op)),
    "SUB": _exact(partial(total, is_difference=True), _elementwise(relax.op.subtract)),
}
"""By operator."""

QUANTIZED = frozenset(
    {
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "MUL",
        "PAD",
        "SUB",
    }
)
"""Operators that are right for quantised tensors here, whatever TVM makes of them."""
