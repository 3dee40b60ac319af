"""Values of small integer tensors as expressions of symbolic dimensions.

ONNX computes shapes with tensors: ``Shape``, ``Gather``, ``Mul``, ``Concat``, then ``Reshape``.
With symbolic dimensions TVM needs their values as expressions, not as tensors of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax, tirx

from relax_tapml._compat import Analyzer
from relax_tapml.arrays import Array
from relax_tapml.frontend._onnx.nodes import STANDARD, attributes_of

Content = Array
"""An array of objects: int, bool, or an expression of TVM."""

MOST_VALUES = 64
_LARGEST_DIM = 1 << 31
_Compute = Callable[[Sequence[Any], Mapping[str, Any]], Any]


def content_of(node: onnx.NodeProto, inputs: Sequence[Content | None], data: Any) -> Content | None:
    """Return the value of a node's output; None if it is not known before a run.

    Parameters
    ----------
    node
        With one output.
    inputs
        The values of its inputs, None for those that are not known or not there.
    data
        Its first input in Relax, for ``Shape`` and ``Size``.
    """
    if node.domain not in STANDARD or not node.output:
        return None
    attributes = attributes_of(node)
    if node.op_type in ("Shape", "Size"):
        return _shape(node.op_type, attributes, data)
    compute = _COMPUTED.get(node.op_type)
    if compute is None or any(
        value is None and name for value, name in zip(inputs, node.input, strict=True)
    ):
        return None
    try:
        found = compute(inputs, attributes)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    if found is None:
        return None
    found = np.asarray(found, dtype=object)
    return _simplified(found) if found.size <= MOST_VALUES else None


def is_number(content: Content) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(value, int | bool) for value in content.reshape(-1))


def as_content(array: Array) -> Content | None:
    """Return the value of a constant; None if it is large, or no integer."""
    if array.dtype.kind not in "biu" or array.size > MOST_VALUES:
        return None
    return array.astype(object)


def _shape(operator: str, attributes: Mapping[str, Any], data: Any) -> Content | None:
    kind = getattr(data, "ty", None)
    if not isinstance(kind, relax.TensorType) or not isinstance(kind.shape, relax.ShapeExpr):
        return None
    dims = [_plain(dim) for dim in kind.shape.values]
    if operator == "Size":
        return _simplified(np.array(math.prod(dims), dtype=object))
    found = np.empty(len(dims), dtype=object)
    found[:] = dims
    return found[attributes.get("start", 0) : attributes.get("end", len(dims))]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, tirx.IntImm) else value


def _simplified(content: Content) -> Content:
    analyzer = Analyzer()
    result = np.empty(content.shape, dtype=object)
    for at in np.ndindex(*content.shape):
        value: Any = content[at]
        is_plain = isinstance(value, int | bool | np.integer | np.bool_)
        result[at] = value if is_plain else _plain(analyzer.simplify(value))
        if isinstance(value, np.integer):
            result[at] = int(value)
    return result


def _numbers(content: Any) -> list[int]:
    if not is_number(content):
        raise ValueError("not a number")
    return [int(value) for value in content.reshape(-1)]


def _axes(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[int, ...]:
    if "axes" in attributes:
        return tuple(attributes["axes"])
    return tuple(_numbers(inputs[1])) if len(inputs) > 1 and inputs[1] is not None else ()


def _gather(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    index = np.array(_numbers(inputs[1])).reshape(inputs[1].shape)
    return np.take(inputs[0], index, axis=attributes.get("axis", 0))


def _slice(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    if len(inputs) < 3 or inputs[0].ndim != 1:
        return None
    (start,), (end,) = _numbers(inputs[1]), _numbers(inputs[2])
    step = _numbers(inputs[4])[0] if len(inputs) > 4 and inputs[4] is not None else 1
    del attributes
    return inputs[0][start:end:step] if step > 0 else None


def _cast(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    is_integer = attributes["to"] in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return inputs[0] if is_integer else None


def _reshape(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    del attributes
    return inputs[0].reshape(_numbers(inputs[1]))


def _squeeze(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    return np.squeeze(inputs[0], axis=_axes(inputs, attributes) or None)


def _divide(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """ONNX rounds to zero, which for what cannot be negative is rounding down."""
    del attributes
    pairs = np.broadcast_arrays(*inputs)
    result = np.empty(pairs[0].shape, dtype=object)
    for at in np.ndindex(*result.shape):
        one: Any = pairs[0][at]
        other: Any = pairs[1][at]
        if isinstance(other, int) and other == 0:
            return None
        if _is_never_negative(one) and _is_never_negative(other):
            result[at] = one // other
        elif isinstance(one, int) and isinstance(other, int):
            result[at] = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
        else:
            result[at] = tirx.truncdiv(one, other)
    return result


def _is_never_negative(value: Any) -> bool:
    """Whether a number, or an expression of dimensions, is at least zero."""
    if isinstance(value, int):
        return value >= 0
    analyzer = Analyzer()
    for name in tirx.analysis.undefined_vars(value):
        sizes = [tirx.const(bound, "int64") for bound in (0, _LARGEST_DIM)]
        analyzer.bind(name, tvm.ir.Range(*sizes))
    return bool(analyzer.const_int_bound(value).min_value >= 0)


def _equal(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    del attributes
    pairs = np.broadcast_arrays(*inputs)
    result = np.empty(pairs[0].shape, dtype=object)
    for at in np.ndindex(*result.shape):
        one: Any = pairs[0][at]
        other: Any = pairs[1][at]
        if isinstance(one, int) and isinstance(other, int):
            result[at] = one == other
        elif (isinstance(one, int) and one < 0) or (isinstance(other, int) and other < 0):
            result[at] = False  # No dimension is negative.
        else:
            return None
    return result


def _where(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    del attributes
    chosen = np.array([bool(n) for n in _numbers(inputs[0])]).reshape(inputs[0].shape)
    return np.where(chosen, inputs[1], inputs[2])


def _filled(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    shape = _numbers(inputs[0])
    if math.prod(shape) > MOST_VALUES:
        return None
    value = attributes.get("value")
    number = 0.0 if value is None else onnx.numpy_helper.to_array(value).reshape(-1)[0].item()
    return np.full(shape, number, dtype=object) if isinstance(number, int) else None


_COMPUTED: dict[str, _Compute] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "Cast": _cast,
    "Concat": lambda inputs, given: np.concatenate(inputs, axis=given["axis"]),
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": _equal,
    "Gather": _gather,
    "Identity": lambda inputs, _: inputs[0],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "ReduceProd": lambda inputs, given: (
        (
            math.prod(inputs[0].reshape(-1))
            if not given.get("keepdims", 1)
            else np.array([math.prod(inputs[0].reshape(-1))], dtype=object)
        )
        if inputs[0].ndim == 1
        else None
    ),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
    "Unsqueeze": lambda inputs, given: np.expand_dims(inputs[0], _axes(inputs, given)),
    "Where": _where,
}
