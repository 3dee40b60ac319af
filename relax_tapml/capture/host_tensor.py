"""A tensor's bytes in host memory, with TVM's dtype and shape, and their digest."""

from __future__ import annotations

import ctypes
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
import tvm
import tvm_ffi

from relax_tapml.arrays import Array

_ALIGNMENT = 64
_DIGEST_CHARS = 32  # 128 bits of SHA-256: names stay short, and content does not collide.


@dataclass(frozen=True, kw_only=True)
class HostTensor:
    """Packed row-major elements.

    Parameters
    ----------
    dtype, shape
        As in TVM: ``int4`` counts elements of four bits, ``float32x4`` counts vectors.
    data
        The bytes; sub-byte elements are packed as on the device.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Array

    def __post_init__(self) -> None:
        expected = packed_bytes(self.dtype, self.shape)
        if self.data.nbytes != expected:
            raise ValueError(
                f"{self.dtype} of shape {self.shape} takes {expected} bytes, got {self.data.nbytes}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the packed elements."""
        return self.data.nbytes

    @cached_property
    def digest(self) -> str:
        """Name of dtype, shape and bytes together; hashing large data releases the GIL."""
        extents = ",".join(map(str, self.shape))
        content = hashlib.sha256(f"{self.dtype}({extents})".encode())
        content.update(self.data.data)
        return content.hexdigest()[:_DIGEST_CHARS]

    @classmethod
    def view_of(cls, tensor: Any) -> HostTensor:
        """Return a view of a contiguous CPU ``tvm.runtime.Tensor``, which it keeps alive."""
        dtype, shape = str(tensor.dtype), tuple(tensor.shape)
        memory = (ctypes.c_uint8 * packed_bytes(dtype, shape)).from_address(tensor.data_ptr() or 1)
        memory.owner = tensor  # type: ignore[attr-defined]
        return cls(dtype=dtype, shape=shape, data=np.ctypeslib.as_array(memory))

    @classmethod
    def copy_of(cls, tensor: Any) -> HostTensor:
        """Return a copy of a contiguous ``tvm.runtime.Tensor`` of any device."""
        dtype, shape = str(tensor.dtype), tuple(tensor.shape)
        data = np.empty(packed_bytes(dtype, shape), np.uint8)
        copy_to_bytes = tvm.get_global_func("runtime.TVMTensorCopyToBytes")
        copy_to_bytes(tensor, ctypes.c_void_p(data.ctypes.data), data.nbytes)
        return cls(dtype=dtype, shape=shape, data=data)

    @classmethod
    def of_array(cls, array: Array) -> HostTensor:
        """Return a copy of a NumPy array.

        Raises
        ------
        ValueError
            TVM has no such dtype, or packs it where NumPy does not (``int4``).
        """
        dtype = array.dtype.name
        if numpy_dtype(dtype) != array.dtype.newbyteorder("="):
            raise ValueError(f"a NumPy array of {dtype} has no TVM tensor of the same bytes")
        little = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C")
        return cls(dtype=dtype, shape=array.shape, data=little.reshape(-1).view(np.uint8))

    def array(self) -> Array:
        """Return the elements, without copying.

        Elements NumPy has no memory layout for (sub-byte ones) come as the packed bytes, a
        one-dimensional ``uint8`` array; vectors come with their lanes as a last dimension.
        """
        element = numpy_dtype(self.dtype)
        if element is None:
            return self.data
        lanes = tvm_ffi.dtype(self.dtype).lanes
        shape = self.shape if lanes == 1 else (*self.shape, lanes)
        return self.data.view(element).reshape(shape)


def tensor_over(array: Array) -> Any | None:
    """Return a CPU ``tvm.runtime.Tensor`` over the memory of an array, None where that cannot be.

    The memory must be contiguous, in the machine's byte order, and begin at a multiple of 64 bytes,
    as TVM's kernels want it. It may be written to, also where the array is read-only.
    """
    is_whole = array.flags.c_contiguous and array.dtype.isnative and array.size > 0
    if not is_whole or array.ctypes.data % _ALIGNMENT:
        return None
    # By its address: NumPy exports neither types of ml_dtypes nor what is read-only.
    memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # type: ignore[attr-defined]
    tensor = tvm.runtime.from_dlpack(np.ctypeslib.as_array(memory))
    return tensor._create_view(array.shape, array.dtype.name)


def tensor_of(array: Array) -> Any:
    """Return a CPU tensor over the memory of an array, which must not be written to, or a copy."""
    tensor = tensor_over(array)
    return tvm.runtime.tensor(np.require(array, requirements="C")) if tensor is None else tensor


def packed_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a packed tensor, rounded up as TVM does for sub-byte elements."""
    element = tvm_ffi.dtype(dtype)
    bits: int = element.bits * element.lanes
    return (math.prod(shape) * bits + 7) // 8


def numpy_dtype(dtype: str) -> np.dtype[Any] | None:
    """Return the NumPy type of one lane, or None where elements of NumPy are not packed so."""
    element = tvm_ffi.dtype(dtype).with_lanes(1)
    name = str(element)
    try:
        found = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        return None
    return found if found.itemsize * 8 == element.bits else None
