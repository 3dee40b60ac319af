"""Converters in place of TVM's: for operators that it lacks, or converts wrongly.

Each docstring says what TVM's own converter does wrong. Delete a converter here when TVM's passes
the tests and ``scripts/onnx_import_sweep.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from relax_tapml._compat import Analyzer, Constant
from relax_tapml.frontend._onnx.constants import array_of, dims_of, number_list
from relax_tapml.frontend._onnx.nodes import dtype_of
from relax_tapml.frontend._onnx.onnx_call import Converter, OnnxCall
from relax_tapml.frontend._onnx.quantized import conv_integer, q_linear_conv, q_linear_matmul
from relax_tapml.frontend._onnx.recurrent import gru, lstm, rnn
from relax_tapml.frontend._onnx.resize import resize, upsample

_END = 10**8
"""A bound of a slice from which on it is the end of a symbolic dimension, which is no longer."""
_FAR = 20.0
"""Where mish(x) is x in float64."""


def _reduce_max(call: OnnxCall) -> Any:
    """Start at -inf: TVM starts at the lowest finite value, which is then the largest of none."""
    return _extreme(call, -math.inf, relax.op.max)


def _reduce_min(call: OnnxCall) -> Any:
    """As ``_reduce_max``."""
    return _extreme(call, math.inf, relax.op.min)


def _extreme(call: OnnxCall, start: float, stock: Callable[..., Any]) -> Any:
    x, axes = call.inputs[0], _axes(call)
    if axes is None:
        return x
    keeps = bool(call.attributes.get("keepdims", 1))
    if "float" not in str(x.ty.dtype) or not all(_is_static(x)):
        return stock(x, axes, keeps)
    reduced = sorted(axis % x.ty.ndim for axis in axes)
    shape = [int(size) for size in x.ty.shape.values]
    larger = tirx.max if start < 0 else tirx.min
    over = te.comm_reducer(
        lambda a, b: larger(a, b),
        lambda dtype: tirx.const(start, dtype),
        name="max" if start < 0 else "min",
    )

    def compute(data: Any) -> Any:
        loops = [te.reduce_axis((0, shape[axis]), name=f"k{axis}") for axis in reduced]
        if keeps:
            out = [1 if axis in reduced else size for axis, size in enumerate(shape)]
        else:
            out = [size for axis, size in enumerate(shape) if axis not in reduced]

        def value(*indices: Any) -> Any:
            own, given = iter(loops), iter(indices)
            at = []
            for axis in range(len(shape)):
                if axis in reduced:
                    at.append(next(own))
                    if keeps:
                        next(given)
                else:
                    at.append(next(given))
            return over(data(*at), axis=loops)

        return te.compute(out, value, name="reduced")

    return call.builder.emit_te(compute, x, primfunc_name_hint="max" if start < 0 else "min")


def _axes(call: OnnxCall) -> list[int] | None:
    """Return the axes of a reduction; None where it returns its input."""
    if "axes" in call.attributes:
        axes: Any = call.attributes["axes"]
    elif len(call.inputs) > 1 and call.inputs[1] is not None:
        axes = number_list(call.inputs[1], "axes")
    else:
        axes = ()
    if axes:
        return [int(axis) for axis in axes]
    if call.attributes.get("noop_with_empty_axes", 0):
        return None
    return list(range(call.inputs[0].ty.ndim))


def _is_inf(call: OnnxCall) -> Any:
    """Look at one sign only, if that is asked for; TVM looks at both."""
    x, op = call.inputs[0], relax.op
    has = [call.attributes.get(f"detect_{name}", 1) for name in ("negative", "positive")]
    if all(has):
        return op.isinf(x)
    sign = op.less if has[0] else op.greater
    found = op.logical_and(op.isinf(x), sign(x, relax.const(0, x.ty.dtype)))
    return found if any(has) else op.zeros_like(op.isinf(x))


def _mish(call: OnnxCall) -> Any:
    """Keep the digits of large negative numbers, which TVM loses in ``log(1 + exp(x))``.

    With e = exp(x), tanh(log(1 + e)) is n / (n + 2) for n = e (e + 2).
    """
    op, x = relax.op, call.inputs[0]
    dtype = x.ty.dtype
    far = relax.const(_FAR if dtype != "float16" else 5.0, dtype)
    two = relax.const(2, dtype)
    e = call.emit(op.exp(op.minimum(x, far)))
    n = call.emit(op.multiply(e, op.add(e, two)))
    near = call.emit(op.multiply(x, op.divide(n, op.add(n, two))))
    return op.where(op.less(x, far), near, x)


def _bit_shift(call: OnnxCall) -> Any:
    """Shift out all bits where a number is shifted by its width or more; TVM leaves that to the
    processor.
    """
    op, (x, by) = relax.op, call.inputs[:2]
    dtype = str(x.ty.dtype)
    width = relax.const(int(dtype.lstrip("uint")), dtype)
    zero = relax.const(0, dtype)
    is_out = call.emit(op.greater_equal(by, width))
    if not dtype.startswith("u"):
        is_out = call.emit(op.logical_or(is_out, op.less(by, zero)))
    near = call.emit(op.where(is_out, zero, by))
    if call.attributes["direction"] == b"LEFT":
        return op.where(is_out, zero, op.left_shift(x, near))
    rest = zero
    if not dtype.startswith("u"):
        rest = call.emit(op.where(op.less(x, zero), relax.const(-1, dtype), zero))
    return op.where(is_out, rest, op.right_shift(x, near))


def _mod(call: OnnxCall) -> Any:
    """Compute floats with the sign of the divisor from ``fmod``: TVM returns NaN for infinities."""
    op, (x, y) = relax.op, call.inputs[:2]
    if call.attributes.get("fmod", 0):
        return op.mod(x, y)
    if "float" not in str(x.ty.dtype):
        return op.floor_mod(x, y)
    zero = relax.const(0, x.ty.dtype)
    rest = call.emit(op.mod(x, y))
    is_other = op.logical_xor(op.less(rest, zero), op.less(y, zero))
    is_other = call.emit(op.logical_and(is_other, op.not_equal(rest, zero)))
    return op.where(is_other, op.add(rest, y), rest)


def _gather(call: OnnxCall) -> Any:
    """Wrap negative indices here, and keep all of them inside.

    TVM computes the size when the model runs, and reads anywhere where an index is outside, as in
    the branch of an ``If`` that is not taken.
    """
    op, (data, indices) = relax.op, call.inputs[:2]
    axis = call.attributes.get("axis", 0) % data.ty.ndim
    size = data.ty.shape.values[axis] if isinstance(data.ty.shape, relax.ShapeExpr) else None
    if isinstance(indices, Constant) and isinstance(size, tirx.IntImm):
        given = array_of(indices)
        return op.take(data, relax.const(np.where(given < 0, given + int(size), given)), axis)
    dtype = str(indices.ty.dtype)
    if not dtype.startswith("u"):
        extent = _extent(call, data, axis, size, dtype)
        is_negative = op.less(indices, relax.const(0, dtype))
        indices = call.emit(op.where(is_negative, op.add(indices, extent), indices))
    return op.take(data, indices, axis, mode="clip")


def _extent(call: OnnxCall, data: Any, axis: int, size: Any, dtype: str) -> Any:
    if isinstance(size, tirx.IntImm):
        return relax.const(int(size), dtype)
    shape = call.emit(relax.op.shape_to_tensor(relax.op.shape_of(data)))
    found = call.emit(relax.op.take(shape, relax.const(axis, "int64"), axis=0))
    return found if dtype == "int64" else call.emit(relax.op.astype(found, dtype))


def _suppression(call: OnnxCall) -> Any:
    """Keep a box whose overlap is the threshold, which TVM suppresses."""
    if not all(value is None or isinstance(value, Constant) for value in call.inputs[2:5]):
        raise ValueError("its limits are computed, and TVM would take others")
    threshold = call.inputs[3]
    if threshold is None:
        return call.stock()
    above = np.nextafter(array_of(threshold), np.float32(np.inf), dtype="float32")
    return call.stock({3: relax.const(above)})


def _reshape(call: OnnxCall) -> Any:
    """Find the size that is left out as an expression of symbolic dimensions."""
    x, target = call.inputs[:2]
    before = x.ty.shape
    if not isinstance(before, relax.ShapeExpr):
        return call.stock()
    dims: list[Any] = dims_of(target, "the shape")
    if not call.attributes.get("allowzero", 0):
        dims = [before.values[at] if _is(dim, 0) else dim for at, dim in enumerate(dims)]
    if any(_is(dim, -1) for dim in dims):
        known = math.prod([dim for dim in dims if not _is(dim, -1)])
        rest = Analyzer().simplify(tirx.floordiv(math.prod(before.values), known))
        dims = [rest if _is(dim, -1) else dim for dim in dims]
    return relax.op.reshape(x, relax.ShapeExpr(dims))


def _expand(call: OnnxCall) -> Any:
    """Keep a dimension of the data where that of the shape is 1, also where it is symbolic."""
    x, target = call.inputs[:2]
    dims = dims_of(target, "the shape")
    if not isinstance(x.ty.shape, relax.ShapeExpr):
        raise ValueError("the shape of the data is not known")
    before = list(x.ty.shape.values)
    rank = max(len(dims), len(before))
    dims = [1] * (rank - len(dims)) + dims
    before = [1] * (rank - len(before)) + before
    after = [old if _is(new, 1) else new for old, new in zip(before, dims, strict=True)]
    return relax.op.broadcast_to(x, relax.ShapeExpr(after))


def _layer_normalization(call: OnnxCall) -> Any:
    """Return the mean and the inverse deviation, too, where they are used."""
    if not any(call.outputs[1:]):
        return call.stock()
    op, emit, (x, scale) = relax.op, call.emit, call.inputs[:2]
    axes = list(range(call.attributes.get("axis", -1) % x.ty.ndim, x.ty.ndim))
    wide = emit(op.astype(x, "float32"))
    mean = emit(op.mean(wide, axes, keepdims=True))
    apart = emit(op.subtract(wide, mean))
    variance = emit(op.mean(emit(op.multiply(apart, apart)), axes, keepdims=True))
    epsilon = relax.const(call.attributes.get("epsilon", 1e-5), "float32")
    inverse = emit(op.rsqrt(emit(op.add(variance, epsilon))))
    normal = emit(op.astype(emit(op.multiply(apart, inverse)), x.ty.dtype))
    result = emit(op.multiply(normal, scale))
    if len(call.inputs) > 2 and call.inputs[2] is not None:
        result = emit(op.add(result, call.inputs[2]))
    return [result, mean, inverse]


def _power(call: OnnxCall) -> Any:
    """Raise to powers of another dtype; TVM refuses that."""
    op, (x, y) = relax.op, call.inputs[:2]
    own, other = str(x.ty.dtype), str(y.ty.dtype)
    if own == other:
        return call.stock()
    if "float" in own or "float" not in other:
        return op.power(x, call.emit(op.astype(y, own)))
    return op.astype(call.emit(op.power(call.emit(op.astype(x, other)), y)), own)


def _space_to_depth(call: OnnxCall) -> Any:
    """Keep channels first in mode CRD, which TVM does not know."""
    if call.attributes.get("mode", b"DCR") == b"DCR":
        return call.stock()
    op, x, size = relax.op, call.inputs[0], call.attributes["blocksize"]
    n, c, h, w = x.ty.shape.values
    parts = call.emit(op.reshape(x, (n, c, h // size, size, w // size, size)))
    moved = call.emit(op.permute_dims(parts, [0, 1, 3, 5, 2, 4]))
    return op.reshape(moved, (n, c * size * size, h // size, w // size))


def _prelu(call: OnnxCall) -> Any:
    """Before version 7 a slope is one for each channel; TVM takes it for the last axis."""
    op, (x, slope) = relax.op, call.inputs[:2]
    if call.opset >= 7 or slope.ty.ndim != 1:
        return call.stock()
    slope = call.emit(op.reshape(slope, (-1, *(1,) * (x.ty.ndim - 2))))
    is_negative = op.less(x, relax.const(0, x.ty.dtype))
    return op.where(is_negative, op.multiply(x, slope), x)


def _one_hot(call: OnnxCall) -> Any:
    """Count negative indices from the end, along any axis; TVM takes scalars only."""
    op, emit, (indices, depth, values) = relax.op, call.emit, call.inputs[:3]
    (length,) = number_list(depth, "the depth")
    axis = call.attributes.get("axis", -1) % (indices.ty.ndim + 1)
    size = relax.const(length, "int64")
    at = emit(op.expand_dims(emit(op.astype(indices, "int64")), axis))
    at = emit(op.where(op.less(at, relax.const(0, "int64")), op.add(at, size), at))
    places = np.arange(length).reshape(-1, *(1,) * (indices.ty.ndim - axis))
    off, on = (
        emit(op.squeeze(emit(op.strided_slice(values, [0], [n], [n + 1])), [0])) for n in (0, 1)
    )
    return op.where(op.equal(at, relax.const(places)), on, off)


def _slice(call: OnnxCall) -> Any:
    """End a slice of a symbolic dimension at the dimension; TVM ends it at the smaller of that and
    a number, which equals no other size.
    """
    x = call.inputs[0]
    given = [*call.inputs, None, None][1:5]
    is_known = all(value is None or isinstance(value, Constant) for value in given)
    if not is_known or given[0] is None or not isinstance(x.ty.shape, relax.ShapeExpr):
        return call.stock()
    starts, ends = (number_list(value, "a bound") for value in given[:2])
    axes = list(range(len(starts))) if given[2] is None else number_list(given[2], "axes")
    steps = [1] * len(starts) if given[3] is None else number_list(given[3], "steps")
    sizes = [x.ty.shape.values[axis] for axis in axes]
    if all(isinstance(size, tirx.IntImm) for size in sizes):
        return call.stock()
    bounds = []
    for start, end, step, size in zip(starts, ends, steps, sizes, strict=True):
        if step != 1:
            return call.stock()
        if isinstance(size, tirx.IntImm):
            first, last, _ = slice(start, end).indices(int(size))
            bounds.append((first, max(first, last)))
        elif 0 <= end < _END:
            return call.stock()
        else:
            first = start if start >= 0 else size + start
            bounds.append((first, size if end >= _END else size + end))
    begin, stop = ([_prim(bound[side]) for bound in bounds] for side in (0, 1))
    once = [_prim(1)] * len(bounds)
    return relax.op.strided_slice(x, axes, begin, stop, once, assume_inbound=True)


def _prim(value: Any) -> Any:
    return tirx.IntImm("int64", value) if isinstance(value, int) else value


def _is(dim: Any, number: int) -> bool:
    return isinstance(dim, int | tirx.IntImm) and int(dim) == number


def _is_static(value: Expr) -> list[bool]:
    shape = value.ty.shape
    if not isinstance(shape, relax.ShapeExpr):
        return [False]
    return [isinstance(size, tirx.IntImm) for size in shape.values]


WRONG: dict[str, str] = {}
"""Operators that TVM converts to wrong values, with what is wrong.

They are replaced by ONNX's definition where there is one, else refused."""

CONVERTERS: dict[str, Converter] = {
    "BitShift": _bit_shift,
    "ConvInteger": conv_integer,
    "Expand": _expand,
    "GRU": gru,
    "Gather": _gather,
    "IsInf": _is_inf,
    "LSTM": lstm,
    "LayerNormalization": _layer_normalization,
    "Mish": _mish,
    "Mod": _mod,
    "NonMaxSuppression": _suppression,
    "OneHot": _one_hot,
    "PRelu": _prelu,
    "Pow": _power,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "RNN": rnn,
    "ReduceMax": _reduce_max,
    "ReduceMin": _reduce_min,
    "Reshape": _reshape,
    "Resize": resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Upsample": upsample,
}
"""By operator, ``Slice`` or ``com.microsoft::FusedConv``."""


def _training(call: OnnxCall) -> str:
    if call.attributes.get("training_mode", 0):
        return "in training mode it would return the statistics that it was given"
    return ""


def _dropout(call: OnnxCall) -> str:
    mode = call.inputs[2] if len(call.inputs) > 2 else None
    if mode is None or (isinstance(mode, Constant) and not array_of(mode).any()):
        return ""
    return "in training mode it would drop nothing"


def _small_floats(call: OnnxCall) -> str:
    dtypes = [str(value.ty.dtype) for value in call.inputs if value is not None]
    target = call.attributes.get("to", call.attributes.get("output_dtype"))
    if target:
        dtypes.append(dtype_of(target))
    small = [dtype for dtype in dtypes if dtype.startswith(("float8", "float4"))]
    if small:
        return f"TVM 0.27 converts {small[0]} to other values on CPUs"
    return ""


def _roi_align(call: OnnxCall) -> str:
    if call.attributes.get("mode", b"avg") == b"max":
        return "of mode max it would take the largest of other samples"
    return ""


DOUBTS: dict[str, Callable[[OnnxCall], str]] = {
    "BatchNormalization": _training,
    "Cast": _small_floats,
    "CastLike": _small_floats,
    "DequantizeLinear": _small_floats,
    "Dropout": _dropout,
    "QuantizeLinear": _small_floats,
    "RoiAlign": _roi_align,
}
"""Return why TVM would convert a node wrongly, or an empty text; by operator."""
