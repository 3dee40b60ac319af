"""How large the error of one rounding may be, by dtype."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo

SMALLEST_NORMAL = 2.0**-126
"""Of float32. A device may flush anything smaller to zero."""

INPUT_PERTURBATION = 2.0**-23
"""The relative perturbation of an input: one unit in the last place of a float32.

Inputs of narrower dtypes are perturbed by no more than that. Kernels convert them to float32, and
both sides get the same bits.
"""

_PART = 1 << 18


def unit_roundoff(dtype: str) -> float:
    """Return the largest relative error of rounding to nearest: 2**-24 for float32.

    For float64 it is twice that, because the float64 evaluation to compare with rounds as often.
    """
    eps = float(finfo(np.dtype(dtype)).eps)
    return eps if dtype == "float64" else eps / 2


def underflow(dtype: str) -> float:
    """Return the largest absolute error of a result that is below the normal range."""
    info = finfo(np.dtype(dtype))
    if float(info.max) < 1e6 or float(info.smallest_normal) < SMALLEST_NORMAL:
        # Gradual underflow: devices flush float32 and bfloat16 only.
        return float(info.smallest_subnormal) / 2
    return SMALLEST_NORMAL


def overflow(dtype: str) -> float | None:
    """Return the largest number of a dtype that ordinary values exceed; None for wider ones.

    In a wider dtype, only values that are infinite anyway or stand for infinity are as large.
    """
    if dtype not in ("float16", "float8_e4m3fn", "float8_e5m2"):
        return None
    return float(finfo(np.dtype(dtype)).max)


def input_perturbation(array: Array) -> Array:
    """Return by how much each value of an input may be perturbed: float32, same shape.

    Whole numbers are not perturbed: they are masks, counts, or at the limit of a dtype. Denormals
    that a device may flush are perturbed by their own magnitude, which makes them zero.
    """
    found = np.empty(array.size, np.float32)
    flat, flushed, step = array.reshape(-1), _flushed(array), _step(array)
    # In parts: the temporaries of a large weight would be several times its size.
    for start in range(0, array.size, _PART):
        wide = as_float64(flat[start : start + _PART])
        with np.errstate(invalid="ignore", over="ignore"):
            is_fixed = ~np.isfinite(wide) | (wide == np.trunc(wide))
            steps = np.abs(wide) * np.where(np.abs(wide) < flushed, 1.0, step)
            found[start : start + _PART] = np.where(is_fixed, 0.0, steps)
    return found.reshape(array.shape)


def _flushed(array: Array) -> float:
    """Return the magnitude below which a device may flush a value of the array to zero."""
    is_flushed = underflow(array.dtype.name) == SMALLEST_NORMAL
    return SMALLEST_NORMAL if is_flushed else 0.0


def _step(array: Array) -> float:
    return min(INPUT_PERTURBATION, float(finfo(array.dtype).eps))
