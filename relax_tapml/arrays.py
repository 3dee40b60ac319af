"""Arrays, and what comparing needs to know about a dtype, NumPy's or ``ml_dtypes``'s."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Allocate = Callable[[Sequence[int], np.dtype[Any]], Array]
"""Returns a new array of a shape and a dtype, contiguous, of any content."""

_ALIGNMENT = 64
_WORD = np.dtype(np.uint64)
_COMPARED = 1 << 20  # Bytes that are compared at once.
_FEW, _PART = 1 << 12, 1 << 16  # Values: of small arrays, and of what is widened at once.

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


@cache  # NumPy makes the name of a dtype anew each time.
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
    if array.size < _FEW or array.dtype.name not in _WIDENED:
        with np.errstate(invalid="ignore"):  # ml_dtypes warns of every NaN
            return array.astype(np.float64, copy=False)
    wide = np.empty_like(array, np.float64, subok=False)
    copy_wide(wide, array)
    return wide


def copy_wide(wide: Array, array: Array) -> None:
    """Copy floats to an array of float32 or float64, which holds them exactly.

    Float16 and bfloat16 are widened by operations on their bits, which is several times as fast as
    what NumPy and ``ml_dtypes`` do value by value, and takes no lock.

    Parameters
    ----------
    wide
        Of the same shape. It is fastest if it lies in memory in the same order.
    array
        Of any float dtype.
    """
    widen = _WIDENED.get(array.dtype.name)
    if widen is None or not array.size or not array.dtype.isnative:
        with np.errstate(invalid="ignore", over="ignore"):
            np.copyto(wide, array, casting="same_kind")
        return
    if array.size > _PART:
        # Along the axis of the largest strides: the temporaries of a part stay in a cache.
        extents = [abs(s) if n > 1 else -1 for s, n in zip(array.strides, array.shape, strict=True)]
        axis = int(np.argmax(extents))
        step = max(1, _PART * array.shape[axis] // array.size)
        for start in range(0, array.shape[axis], step):
            at = (slice(None),) * axis + (slice(start, start + step),)
            copy_wide(wide[at], array[at])
        return
    found = widen(array.view(np.uint16))
    with np.errstate(invalid="ignore"):
        np.copyto(wide, array if found is None else found)


def _widened_half(bits: Array) -> Array | None:
    """Return float16 as float32; None where some are not finite."""
    size = np.asarray(bits & np.uint16(0x7FFF))
    if size.max() >= 0x7C00:
        return None
    wide = np.asarray(size.astype(np.uint32))
    wide <<= np.uint32(13)
    wide += np.uint32(112 << 23)
    # Normal numbers are right. Others, below 2**-14, are 2**-15 + x / 2, which ``twice`` maps to x;
    # of all larger numbers it makes larger ones.
    values = wide.view(np.float32)
    twice = values + values
    twice -= np.float32(2.0**-14)
    np.minimum(values, twice, out=values)
    wide |= (bits & np.uint16(0x8000)).astype(np.uint32) << np.uint32(16)
    return values


def _widened_bfloat(bits: Array) -> Array:
    """Return bfloat16 as float32, of which it is the first half."""
    return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


_WIDENED: dict[str, Callable[[Array], Array | None]] = {
    "float16": _widened_half,
    "bfloat16": _widened_bfloat,
}


def is_same_value(a: Array, b: Array) -> Array:
    """Return where two arrays of one dtype have the same value; a NaN is the same as a NaN."""
    is_same = a == b
    if is_float(a.dtype):
        wide, other = as_float64(a), as_float64(b)
        is_same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    return np.asarray(is_same)


def are_same_bytes(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same bytes; block by block, without a copy of either."""
    first, second = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other))
    if first.size != second.size:
        return False
    if first.size % _WORD.itemsize == 0:
        first, second = first.view(_WORD), second.view(_WORD)  # An eighth as many results.
    step = _COMPARED // first.itemsize
    return all(
        np.array_equal(first[begin : begin + step], second[begin : begin + step])
        for begin in range(0, first.size, step)
    )


def are_same_arrays(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether arrays have the same dtypes, shapes and bytes, one by one."""
    return len(some) == len(others) and all(
        (one.dtype, one.shape) == (other.dtype, other.shape) and are_same_bytes(one, other)
        for one, other in zip(some, others, strict=True)
    )


def hashed(numbers: Array) -> Array:
    """Return a hash of each number, the same everywhere: uint64 to uint64."""
    hashes = np.array(numbers, np.uint64)
    hash_in_place(hashes, np.empty_like(hashes))
    return hashes


def hash_in_place(numbers: Array, scratch: Array) -> None:
    """Replace each number by its hash: uint64, as ``scratch`` is, of the same shape."""
    with np.errstate(over="ignore"):
        numbers += np.uint64(1)
        numbers *= _STEP
        for shift, factor in _MIX:
            numbers ^= np.right_shift(numbers, np.uint64(shift), out=scratch)
            numbers *= np.uint64(factor)
        numbers ^= np.right_shift(numbers, np.uint64(31), out=scratch)
