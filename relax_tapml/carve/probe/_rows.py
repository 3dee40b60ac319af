"""Rows that are all negative or all equal, and values that are no ordinary numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import bitwise, prim, prim_op
from relax_tapml.arrays import Array, as_float64, finfo
from relax_tapml.carve.probe._recorded_call import RecordedCall, draws
from relax_tapml.carve.select.tensor_statistics import MASK
from relax_tapml.kernel_flow.expressions import is_float_expr, is_sum, nodes

_COMPARISONS = (prim.LT, prim.LE, prim.GT, prim.GE, prim.EQ, prim.NE)
# At least so far below zero, and by up to how much more. Of the first exp is zero, also of a part.
_DEPTHS = ((2000.0, 100.0), (200.0, 50.0))
_IEEE = ("float16", "float32", "float64", "bfloat16")
# One of each in so many values: most results are to stay ordinary.
_EACH = 64


def compares_floats(recorded: RecordedCall) -> bool:
    """Return whether floats decide anything: a maximum, or which of two values is taken."""
    body = recorded.kernel.body
    extremes = [*nodes(body, prim.Max), *nodes(body, prim.Min)]
    if any(is_float_expr(node) for node in extremes):
        return True
    return any(is_float_expr(node.a) for kind in _COMPARISONS for node in nodes(body, kind))


def negative_rows(arrays: dict[int, Array]) -> Iterator[tuple[dict[int, Array], str]]:
    """Yield floats that are all far below zero, and alike in half of the rows.

    A maximum that wrongly starts at zero is found in rows that are all negative, along any axis.

    Parameters
    ----------
    arrays
        The floats of a call, shuffled, by position of the input.
    """
    for depth, more in _DEPTHS:
        yield (
            {place: _negative(array, depth, more) for place, array in arrays.items()},
            f"all below {-depth:g}, and alike in half of the rows",
        )


def _negative(array: Array, depth: float, more: float) -> Array:
    wide = as_float64(array)
    is_ordinary = np.isfinite(wide) & (wide > MASK) & (wide < -MASK)
    size = np.abs(np.where(is_ordinary, wide, 0.0))
    drawn = -(depth + more * size / max(float(size.max()), 1e-30))
    long = [axis for axis, extent in enumerate(array.shape) if extent > 1]
    if len(long) > 1:
        first = long[0]
        later: list[Any] = [slice(None)] * array.ndim
        later[first] = slice((array.shape[first] + 1) // 2, None)
        drawn[tuple(later)] = -depth
    return np.where(is_ordinary, drawn, wide).astype(array.dtype)


def only_moves_and_adds(recorded: RecordedCall) -> bool:
    """Return whether IEEE arithmetic alone defines what a kernel makes of NaN and infinities.

    It moves, adds, subtracts and multiplies floats. Reductions do not count: a right kernel may pad
    them. Neither do maxima and comparisons, which platforms do not define alike for NaN.
    """
    body = recorded.kernel.body
    if compares_floats(recorded) or any(is_sum(s) for s in recorded.stores):
        return False
    divisions = [node for kind in (prim.Div, prim.Mod) for node in nodes(body, kind)]
    if any(is_float_expr(node) for node in divisions):
        return False
    known = (Op.get(prim_op("if_then_else")), Op.get(prim_op("likely")))
    calls = [call for call in nodes(body, ir_expr.Call) if bitwise(call) is None]
    casts = nodes(body, prim.Cast)
    return all(call.op in known for call in calls) and not any(
        is_float_expr(cast.value) and not is_float_expr(cast) for cast in casts
    )


def with_specials(arrays: dict[int, Array]) -> dict[int, Array]:
    """Return floats with a NaN, both infinities and a denormal in them, each in one place.

    Parameters
    ----------
    arrays
        By position of the input; those that have few values, or no such values, stay.
    """
    return {
        place: _special(array, place)
        if array.size >= 4 * _EACH and array.dtype.name in _IEEE
        else array
        for place, array in arrays.items()
    }


def _special(array: Array, place: int) -> Array:
    tiny = float(finfo(array.dtype).smallest_subnormal) * 3
    flat = array.reshape(-1).copy()
    some = draws(place, 6).permutation(array.size)[:4]
    flat[some] = np.asarray([np.nan, np.inf, -np.inf, tiny]).astype(array.dtype)
    return np.asarray(flat.reshape(array.shape))
