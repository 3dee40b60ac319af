"""Arrays by name in a safetensors file, every dtype kept as it is."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from relax_tapml.arrays import Array

# What `safetensors.numpy.load` cannot read.
_ML_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
_NUMPY_DTYPES = {
    "BOOL": np.bool_,
    "C64": np.complex64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
}
_DTYPES = {name: np.dtype(dtype) for name, dtype in {**_NUMPY_DTYPES, **_ML_DTYPES}.items()}


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
