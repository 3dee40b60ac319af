"""Arrays, and what comparing needs to know about a dtype, NumPy's or ``ml_dtypes``'s."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_ALIGNMENT = 64

# Of splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_DTYPE_NAME = re.compile(r"bool|u?int\d+|b?float\d+(_\w+)?|complex\d+")


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the dtype of a name. Raises ``ValueError`` if there is none."""
    try:
        # NumPy reads more than names, and would take any class for a dtype of objects.
        if _DTYPE_NAME.fullmatch(name):
            return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        pass
    raise ValueError(f"{name!r} is not a dtype that NumPy can hold")


def is_float(dtype: np.dtype[Any] | str) -> bool:
    """Return whether a dtype of NumPy, or the name of one of TVM, is a float, as bfloat16 is."""
    name = dtype if isinstance(dtype, str) else dtype.name
    return name.startswith(("float", "bfloat"))


def is_integer(dtype: np.dtype[Any] | str) -> bool:
    """Return the same for integers and bool, int4 included."""
    name = dtype if isinstance(dtype, str) else dtype.name
    return name.startswith(("int", "uint", "bool"))


def finfo(dtype: np.dtype[Any]) -> Any:
    """Return ``ml_dtypes.finfo``, which knows NumPy's types too."""
    return ml_dtypes.finfo(dtype)


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return an array whose memory begins at a multiple of 64 bytes, as TVM's kernels want it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(tuple(shape))


def as_float64(array: Array) -> Array:
    """Return the same values as float64; exact but for integers above 2**53."""
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of every NaN
        return array.astype(np.float64, copy=False)


def is_same_value(a: Array, b: Array) -> Array:
    """Return where two arrays of one dtype have the same value; a NaN is the same as a NaN."""
    is_same = a == b
    if is_float(a.dtype):
        wide, other = as_float64(a), as_float64(b)
        is_same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    return np.asarray(is_same)


def hashed(numbers: Array) -> Array:
    """Return a hash of each number, the same everywhere: uint64 to uint64."""
    with np.errstate(over="ignore"):
        mixed = (numbers + np.uint64(1)) * _STEP
        for shift, factor in _MIX:
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
