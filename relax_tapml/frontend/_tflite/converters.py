"""Converters in place of those of TVM that are wrong.

Each gets TVM's converter, whose methods give tensors and values, and the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from relax_tapml.frontend._tflite.operators import dtype_of

Convert = Callable[..., Any]


def expand_dims(converter: Any, op: Any) -> Any:
    """Add an axis; TVM 0.27 passes ``expand_dims`` an argument that it does not have."""
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


CONVERTERS: dict[str, Convert] = {
    "DEQUANTIZE": dequantize,
    "EXPAND_DIMS": expand_dims,
}
"""By operator."""
