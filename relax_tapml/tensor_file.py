"""Tensors in a safetensors file, bit for bit: several by name, or one of any dtype.

Of one tensor of which only some rows matter, the file may hold these rows and their numbers. The
other rows are filled when it is read, with the same values in other places.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
import safetensors
import safetensors.numpy

from relax_tapml.arrays import Array, dtype_named

FILE_DTYPES = {
    "bool": "BOOL",
    "complex64": "C64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
"""What safetensors calls each dtype of NumPy and ``ml_dtypes`` that it can hold."""

MAX_TENSOR_BYTES = 1 << 34
"""Of one tensor: what is larger is no tensor of a model that runs here."""

_DTYPES = {code: dtype_named(name) for name, code in FILE_DTYPES.items()}
_NAME, _ROWS = "tensor", "rows"
_LENGTH_BYTES = 8
# A header of one tensor has about a hundred.
_MAX_HEADER = 100_000
# Of a tensor of which a file holds some: no table of words or tokens has more, but any number is
# written easily, and all of them are filled.
_MAX_ROWS = 1 << 24

_Entries = dict[str, tuple[str, list[int]]]


def dump_tensors(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a safetensors file that holds ``arrays``.

    Raises
    ------
    ValueError
        An array's dtype has no safetensors name.
    """
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise ValueError(f"'{name}' is {array.dtype}, which safetensors cannot hold")
    # The writer takes the buffer as it lies, so a transposed view must be copied first.
    dense = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    return bytes(safetensors.numpy.save(dense))


def parse_tensors(data: bytes) -> dict[str, Array]:
    """Return the arrays in the bytes of a safetensors file, by name.

    Raises
    ------
    ValueError
        The bytes are not a whole safetensors file, or hold a dtype that NumPy lacks.
    """
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, MemoryError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    arrays: dict[str, Array] = {}
    for name, entry in entries:
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"'{name}' is {entry['dtype']}, which NumPy cannot hold")
        arrays[name] = np.frombuffer(entry["data"], dtype=dtype).reshape(entry["shape"])
    return arrays


def dump_tensor(array: Array) -> bytes:
    """Return the bytes of a file that holds one array, of any strides and any dtype.

    A dtype that safetensors lacks is kept as bytes.
    """
    dense = np.require(array, requirements="C")
    if dense.dtype.name not in FILE_DTYPES:
        dense = np.frombuffer(dense.tobytes(), np.uint8)
    return dump_tensors({_NAME: dense})


def can_hold_rows(array: Array) -> bool:
    """Return whether ``dump_rows`` takes an array."""
    return array.ndim > 0 and array.dtype.name in FILE_DTYPES


def dump_rows(array: Array, rows: Array) -> bytes:
    """Return the bytes of a file that holds some rows of ``array``.

    Parameters
    ----------
    array
        Of at least one axis, and of a dtype that safetensors has a name for.
    rows
        Numbers of the rows, ascending: int64, at least one.
    """
    return dump_tensors({_NAME: array[rows], _ROWS: rows})


def filled_rows(values: Array, rows: Array, count: int) -> Array:
    """Return ``count`` rows, of which ``rows`` are ``values``.

    The others hold the same values one place further, again and again, so that they look like
    the rest and yet differ from it.
    """
    shape = (count, *values.shape[1:])
    array = np.resize(np.roll(values.reshape(-1), 1), shape)
    array[rows] = values
    return array


def parse_tensor(
    data: bytes, dtype: str, shape: Sequence[int], *, rows: int | None = None
) -> Array:
    """Return the array of ``dtype`` and ``shape`` that a file of ``dump_tensor`` holds.

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
    held = parse_tensors(data)
    actual = {name: (FILE_DTYPES[a.dtype.name], list(a.shape)) for name, a in held.items()}
    _check_entries(actual, dtype, shape, rows)
    values = held[_NAME].reshape(-1).view(dtype_named(dtype))
    if rows is None:
        return values.reshape(shape)
    numbers = held[_ROWS]
    if numbers[0] < 0 or numbers[-1] >= shape[0] or bool((np.diff(numbers) <= 0).any()):
        raise ValueError(f"its rows are not {rows} ascending numbers below {shape[0]}")
    return filled_rows(values.reshape(rows, *shape[1:]), numbers, shape[0])


def check_header(
    file: BinaryIO, dtype: str, shape: Sequence[int], *, rows: int | None = None
) -> None:
    """Check that an open file is one of ``dump_tensor``, without reading the tensor itself.

    Parameters are those of ``parse_tensor``.

    Raises
    ------
    ValueError
        Its header is too long, is no header, or states another dtype, shape or size than expected.
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
    _check_entries(actual, dtype, shape, rows)
    held = shape if rows is None else (rows, *shape[1:])
    total = math.prod(held) * dtype_named(dtype).itemsize + _LENGTH_BYTES * (rows or 0)
    if start + total != size:
        raise ValueError(
            f"expected {total} bytes of {dtype} {list(held)}, got {size - start} bytes"
        )
    # One after the other, without gaps.
    if [end for end, _ in ends] + [total] != [0] + [end for _, end in ends]:
        raise ValueError(f"its tensors lie at {ends}, expected {total} bytes without gaps")


def _check_entries(actual: _Entries, dtype: str, shape: Sequence[int], rows: int | None) -> None:
    """Raise ``ValueError`` unless a file has dtype and shape by name as it should."""
    size_bytes = math.prod(shape) * dtype_named(dtype).itemsize
    if min(shape, default=0) < 0 or size_bytes > MAX_TENSOR_BYTES:
        raise ValueError(f"a tensor of {dtype} {list(shape)} cannot be held")
    as_bytes: _Entries = {_NAME: ("U8", [size_bytes])}
    code = FILE_DTYPES.get(dtype)
    if rows is None:
        expected = as_bytes if code is None else {_NAME: (code, list(shape))}
    elif code is not None and shape and 0 < rows <= shape[0] <= _MAX_ROWS:
        expected = {_NAME: (code, [rows, *shape[1:]]), _ROWS: ("I64", [rows])}
    else:
        raise ValueError(f"{rows} rows of {dtype} {list(shape)} cannot be held")
    # Older files hold bytes of some dtypes that safetensors has a name for.
    if actual != expected and (rows is not None or actual != as_bytes):
        raise ValueError(f"expected {expected}, got {actual}")
