"""``Resize`` and ``Upsample`` of known sizes, as sums of a few shifted inputs for each axis.

TVM's converter takes the ratio of the sizes in place of the scale that is given, and ignores
antialiasing, ``exclude_outside``, ``axes`` and the policies of aspect ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx

from relax_tapml._compat import Constant
from relax_tapml.arrays import Array
from relax_tapml.frontend._onnx.constants import array_of
from relax_tapml.frontend._onnx.onnx_call import OnnxCall

_Tap = tuple[Array, Array | None]
"""Which element of the input, and its weight, for each element of the result; None for weight 1."""


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """How one axis is resized.

    Parameters
    ----------
    axis
        Which.
    before, after
        Its sizes.
    scale
        As it is given, or the ratio of the sizes.
    region
        The part of the input that is resized, for ``tf_crop_and_resize``.
    """

    axis: int
    before: int
    after: int
    scale: float
    region: tuple[float, float]


def resize(call: OnnxCall) -> Any:
    """Return a tensor of other sizes. Raises ``ValueError`` where they are not known."""
    x = call.inputs[0]
    if not isinstance(x.ty.shape, relax.ShapeExpr):
        raise ValueError("the shape of the data is not known")
    if not all(isinstance(size, tirx.IntImm) for size in x.ty.shape.values):
        return _symbolic(call)
    options = call.attributes
    mode = options.get("mode", b"nearest").decode()
    result = x
    if mode != "nearest" and "float" not in str(x.ty.dtype):
        raise ValueError(f"{mode} interpolation of {x.ty.dtype}")
    for one in _axes(call):
        places = _places(one, _coordinates(call))
        is_out = (places < 0) | (places > one.before - 1)
        if mode == "nearest":
            taps: list[_Tap] = [(_nearest(call, one, places), None)]
        else:
            taps = _taps(call, one, places, mode)
        if one.before == one.after and _is_same(taps, one.before):
            continue
        result = _mixed(call, result, one.axis, taps)
        if _coordinates(call) == "tf_crop_and_resize" and is_out.any():
            value = relax.const(options.get("extrapolation_value", 0.0), x.ty.dtype)
            outside = relax.const(is_out.reshape(-1, *(1,) * (x.ty.ndim - 1 - one.axis)))
            result = call.emit(relax.op.where(outside, value, result))
    return result


def upsample(call: OnnxCall) -> Any:
    """Return a tensor of larger sizes; the scales are an attribute before version 9."""
    return resize(call)


def _symbolic(call: OnnxCall) -> Any:
    """Leave whole scales to TVM, where the ratio of the sizes is the scale."""
    scales = _scales(call)
    is_plain = not {"antialias", "exclude_outside", "axes"} & call.attributes.keys()
    if call.opset < 11 or scales is None or not is_plain or any(s % 1 for s in scales):
        raise ValueError("its sizes are not numbers, and scales are not whole numbers")
    return call.stock()


def _coordinates(call: OnnxCall) -> str:
    default = b"asymmetric" if call.opset < 11 else b"half_pixel"
    name: bytes = call.attributes.get("coordinate_transformation_mode", default)
    return name.decode()


def _scales(call: OnnxCall) -> Array | None:
    if "scales" in call.attributes:
        return np.array(call.attributes["scales"], "float32")
    at = 1 if call.opset < 11 else 2
    value = call.inputs[at]
    if value is None or value.ty.shape is None:
        return None
    found = _constant(value, "the scales")
    return found if found.size else None


def _constant(value: Any, what: str) -> Array:
    if not isinstance(value, Constant):
        raise ValueError(f"{what} are computed when the model runs")
    return array_of(value)


def _axes(call: OnnxCall) -> list[_Axis]:
    shape = [int(size) for size in call.inputs[0].ty.shape.values]
    rank = len(shape)
    axes = [axis % rank for axis in call.attributes.get("axes", range(rank))]
    scales, sizes = _scales(call), call.inputs[3] if call.opset >= 11 else None
    if scales is None:
        if sizes is None:
            raise ValueError("it has neither scales nor sizes")
        given = _constant(sizes, "the sizes")
        after, scales = _sized(call, [shape[axis] for axis in axes], given)
    else:
        after = [math.floor(np.float32(shape[a]) * s) for a, s in zip(axes, scales, strict=True)]
    regions = _regions(call, len(axes))
    found = [
        _Axis(axis=axis, before=shape[axis], after=size, scale=float(scale), region=region)
        for axis, size, scale, region in zip(axes, after, scales, regions, strict=True)
    ]
    if _coordinates(call) == "align_corners" and any(
        one.after != one.before * one.scale for one in found if sizes is None
    ):
        raise ValueError("corners are aligned, and the scales give no whole sizes")
    return found


def _sized(call: OnnxCall, before: Sequence[int], sizes: Array) -> tuple[list[int], Array]:
    ratios = [int(size) / old for size, old in zip(sizes, before, strict=True)]
    policy = call.attributes.get("keep_aspect_ratio_policy", b"stretch")
    if policy == b"stretch":
        return [int(size) for size in sizes], np.array(ratios, "float32")
    ratio = min(ratios) if policy == b"not_larger" else max(ratios)
    after = [math.floor(ratio * old + 0.5) for old in before]
    return after, np.array([ratio] * len(before), "float32")


def _regions(call: OnnxCall, count: int) -> list[tuple[float, float]]:
    if _coordinates(call) != "tf_crop_and_resize":
        return [(0.0, 1.0)] * count
    ends = _constant(call.inputs[1], "the region")
    return [(float(ends[at]), float(ends[count + at])) for at in range(count)]


def _places(one: _Axis, mode: str) -> Array:
    """Return where each element of the result lies in the input, computed as onnxruntime does."""
    at, scale = np.arange(one.after, dtype="float32"), np.float32(one.scale)
    half = np.float32(0.5)
    match mode:
        case "half_pixel":
            return (at + half) / scale - half
        case "half_pixel_symmetric":
            middle = one.before / 2
            offset = middle * (1 - one.after / (one.scale * one.before))
            return np.asarray(offset + (at + half) / scale - half)
        case "pytorch_half_pixel":
            return (at + half) / scale - half if one.after > 1 else at * 0
        case "align_corners":
            return at * np.float32((one.before - 1) / max(one.after - 1, 1))
        case "asymmetric":
            return at / scale
        case "tf_crop_and_resize":
            first, last = (end * (one.before - 1) for end in one.region)
            if one.after == 1:
                return np.array([(first + last) / 2])
            return np.asarray(first + at * (last - first) / (one.after - 1))
    raise ValueError(f"the mode of coordinates {mode!r} is not known")


def _nearest(call: OnnxCall, one: _Axis, places: Array) -> Array:
    default = b"round_prefer_floor"
    if call.opset < 11:
        default = b"floor" if one.scale >= 1 else b"ceil"
    rule = call.attributes.get("nearest_mode", default)
    found = {
        b"round_prefer_floor": lambda: np.ceil(places - 0.5),
        b"round_prefer_ceil": lambda: np.floor(places + 0.5),
        b"floor": lambda: np.floor(places),
        b"ceil": lambda: np.ceil(places),
    }[rule]()
    return np.clip(found, 0, one.before - 1).astype("int64")


def _taps(call: OnnxCall, one: _Axis, places: Array, mode: str) -> list[_Tap]:
    """Return the elements that are summed, with their weights: index and weight by element."""
    base = np.floor(places)
    rest = (places - base).astype("float64")
    reach = 1 if mode == "linear" else 2
    shrink = min(1.0, one.scale) if call.attributes.get("antialias", 0) else 1.0
    first = math.floor(-reach / shrink) + 1
    offsets = range(first, 2 - first)
    sharpness = call.attributes.get("cubic_coeff_a", -0.75)
    indices, weights = [], []
    for offset in offsets:
        distance = np.abs((offset - rest) * shrink)
        weights.append(
            np.clip(1 - distance, 0, 1) if mode == "linear" else _cubic(distance, sharpness)
        )
        indices.append(base.astype("int64") + offset)
    index, weight = np.stack(indices), np.stack(weights)
    if call.attributes.get("exclude_outside", 0):
        weight = np.where((index < 0) | (index >= one.before), 0, weight)
    if shrink < 1 or call.attributes.get("exclude_outside", 0):
        weight = weight / weight.sum(0)
    index = np.clip(index, 0, one.before - 1)
    return [(i, w) for i, w in zip(index, weight, strict=True) if w.any()]


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _is_same(taps: Sequence[_Tap], size: int) -> bool:
    """Whether taps return the input as it is."""
    (index, weight), *others = taps
    is_one = weight is None or bool(np.all(weight == 1))
    return not others and is_one and np.array_equal(index, np.arange(size))


def _mixed(call: OnnxCall, x: Any, axis: int, taps: Sequence[_Tap]) -> Any:
    op, total = relax.op, None
    for index, weight in taps:
        part = call.emit(op.take(x, relax.const(index), axis))
        if weight is not None:
            shape = (-1, *(1,) * (x.ty.ndim - 1 - axis))
            by = relax.const(weight.reshape(shape).astype(str(x.ty.dtype)))
            part = call.emit(op.multiply(part, by))
        total = part if total is None else call.emit(op.add(total, part))
    return total
