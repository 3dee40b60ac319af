"""One tensor in a safetensors file, bit for bit, whatever its dtype."""

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

from relax_tapml.frontend.model import Array

_NAME = "tensor"
_DTYPE_NAME = re.compile(r"bool|u?int\d+|b?float\d+(_\w+)?|complex\d+")
_LENGTH_BYTES = 8
# A header of one tensor has about a hundred.
_MAX_HEADER = 100_000
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


def load(data: bytes, dtype: str, shape: Sequence[int]) -> Array:
    """Return the array of ``dtype`` and ``shape`` that a file of ``dump`` holds.

    Raises
    ------
    ValueError
        The bytes are not such a file, or it holds another dtype or shape.
    """
    try:
        [(name, entry)] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    wanted = numpy_dtype(dtype)
    expected: tuple[Any, ...] = (_NAME, _FILE_DTYPES.get(dtype, "U8"))
    actual: tuple[Any, ...] = (name, entry["dtype"])
    if dtype in _FILE_DTYPES:
        expected, actual = (*expected, list(shape)), (*actual, list(entry["shape"]))
    if actual != expected:
        raise ValueError(f"expected {expected}, got {actual}")
    return np.frombuffer(entry["data"], wanted).reshape(shape)


def check_header(file: BinaryIO, dtype: str, shape: Sequence[int]) -> None:
    """Check that an open file is one of ``dump``, without reading the tensor itself.

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
        [(name, entry)] = header.items()
        actual = (name, entry["dtype"], entry["shape"], entry["data_offsets"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    count = math.prod(shape)
    wanted = numpy_dtype(dtype)
    nbytes = count * wanted.itemsize
    if count < 0 or start + nbytes != size:
        raise ValueError(
            f"expected {nbytes} bytes of {dtype} {list(shape)}, got {size - start} bytes"
        )
    shape = list(shape) if dtype in _FILE_DTYPES else [nbytes]
    expected = (_NAME, _FILE_DTYPES.get(dtype, "U8"), shape, [0, nbytes])
    if actual != expected:
        raise ValueError(f"expected {expected}, got {actual}")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of a name. Raises ``ValueError`` if there is none."""
    try:
        # NumPy reads more than names, and would take any class for a dtype of objects.
        if _DTYPE_NAME.fullmatch(name):
            return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        pass
    raise ValueError(f"{name!r} is not a dtype that NumPy can hold")
