"""One tensor in a safetensors file, bit for bit, whatever its dtype.

Of a tensor of which only some rows matter, the file may hold these rows and their numbers. The
other rows are filled when it is read, with the same values in other places.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from relax_tapml.arrays import Array
from relax_tapml.files.read import MAX_TENSOR_BYTES

_NAME, _ROWS = "tensor", "rows"
_DTYPE_NAME = re.compile(r"bool|u?int\d+|b?float\d+(_\w+)?|complex\d+")
_LENGTH_BYTES = 8
# A header of one tensor has about a hundred.
_MAX_HEADER = 100_000
# Of a tensor of which a file holds some: no table of words or tokens has more, but any number is
# written easily, and all of them are filled.
_MAX_ROWS = 1 << 24
# What the file says the bytes are, by NumPy's name; a dtype that is not here is kept as bytes.
_FILE_DTYPES = {
    "bool": "BOOL",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}


def dump(array: Array) -> bytes:
    """Return the bytes of a safetensors file that holds ``array``, of any strides."""
    dense = np.require(array, requirements="C")
    if dense.dtype.name not in _FILE_DTYPES:
        dense = np.frombuffer(dense.tobytes(), np.uint8)
    data: bytes = safetensors.numpy.save({_NAME: dense})
    return data


def can_hold_rows(array: Array) -> bool:
    """Return whether ``dump_rows`` takes an array."""
    return array.ndim > 0 and array.dtype.name in _FILE_DTYPES


def dump_rows(array: Array, rows: Array) -> bytes:
    """Return the bytes of a file that holds some rows of ``array``.

    Parameters
    ----------
    array
        Of at least one axis, and of a dtype that safetensors has a name for.
    rows
        Numbers of the rows, ascending: int64, at least one.
    """
    data: bytes = safetensors.numpy.save({_NAME: array[rows], _ROWS: rows})
    return data


def filled(values: Array, rows: Array, count: int) -> Array:
    """Return ``count`` rows, of which ``rows`` are ``values``.

    The others hold the same values one place further, again and again, so that they look like
    the rest and yet differ from it.
    """
    shape = (count, *values.shape[1:])
    array = np.resize(np.roll(values.reshape(-1), 1), shape)
    array[rows] = values
    return array


def load(data: bytes, dtype: str, shape: Sequence[int], *, rows: int | None = None) -> Array:
    """Return the array of ``dtype`` and ``shape`` that a file of ``dump`` holds.

    Parameters
    ----------
    data
        The file.
    dtype, shape
        Of the array.
    rows
        How many rows the file holds, if it is one of ``dump_rows``.

    Raises
    ------
    ValueError
        The bytes are not such a file, or it holds another dtype or shape.
    """
    try:
        entries = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, MemoryError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    actual = {name: (entry["dtype"], list(entry["shape"])) for name, entry in entries.items()}
    expected = _entries(dtype, shape, rows)
    if actual != expected:
        raise ValueError(f"expected {expected}, got {actual}")
    values = np.frombuffer(entries[_NAME]["data"], numpy_dtype(dtype))
    if rows is None:
        return values.reshape(shape)
    numbers = np.frombuffer(entries[_ROWS]["data"], np.int64)
    if numbers[0] < 0 or numbers[-1] >= shape[0] or bool((np.diff(numbers) <= 0).any()):
        raise ValueError(f"its rows are not {rows} ascending numbers below {shape[0]}")
    return filled(values.reshape(rows, *shape[1:]), numbers, shape[0])


def check_header(
    file: BinaryIO, dtype: str, shape: Sequence[int], *, rows: int | None = None
) -> None:
    """Check that an open file is one of ``dump``, without reading the tensor itself.

    Parameters are those of ``load``.

    Raises
    ------
    ValueError
        Its header is too long, is no header, or says another dtype, shape or size than expected.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if length > _MAX_HEADER or start > size:
        raise ValueError(
            f"its header claims {length} bytes, expected at most {min(_MAX_HEADER, size)}"
        )
    try:
        header = json.loads(file.read(length))
        actual = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
        ends = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    expected = _entries(dtype, shape, rows)
    if actual != expected:
        raise ValueError(f"expected {expected}, got {actual}")
    held = shape if rows is None else (rows, *shape[1:])
    nbytes = math.prod(held) * numpy_dtype(dtype).itemsize
    total = nbytes + _LENGTH_BYTES * (rows or 0)
    if start + total != size:
        raise ValueError(
            f"expected {total} bytes of {dtype} {list(held)}, got {size - start} bytes"
        )
    # One after the other, without gaps.
    if [end for end, _ in ends] + [total] != [0] + [end for _, end in ends]:
        raise ValueError(f"its tensors lie at {ends}, expected {total} bytes without gaps")


def _entries(
    dtype: str, shape: Sequence[int], rows: int | None
) -> dict[str, tuple[str, list[int]]]:
    """Return what a file holds: dtype and shape by name."""
    size = math.prod(shape)
    if min(shape, default=0) < 0 or size * numpy_dtype(dtype).itemsize > MAX_TENSOR_BYTES:
        raise ValueError(f"a tensor of {dtype} {list(shape)} cannot be held")
    if rows is not None:
        if dtype not in _FILE_DTYPES or not shape or not 0 < rows <= shape[0] <= _MAX_ROWS:
            raise ValueError(f"{rows} rows of {dtype} {list(shape)} cannot be held")
        return {_NAME: (_FILE_DTYPES[dtype], [rows, *shape[1:]]), _ROWS: ("I64", [rows])}
    if dtype in _FILE_DTYPES:
        return {_NAME: (_FILE_DTYPES[dtype], list(shape))}
    return {_NAME: ("U8", [math.prod(shape) * numpy_dtype(dtype).itemsize])}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of a name. Raises ``ValueError`` if there is none."""
    try:
        # NumPy reads more than names, and would take any class for a dtype of objects.
        if _DTYPE_NAME.fullmatch(name):
            return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        pass
    raise ValueError(f"{name!r} is not a dtype that NumPy can hold")
