"""Copy tensors between two processes of one machine, through a file that both have mapped.

TVM's RPC writes tensors byte by byte, at 30 to 60 MB/s, and takes several messages to create one.
A file is many times faster: for the tensors of a hybrid run, and for parameters when a crashed
device process is replaced. What lies in a file already is mapped from there and copied by nobody.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import tvm
import tvm_ffi
from tvm.runtime import _ffi_api

from relax_tapml.arrays import Array, dtype_named, empty_aligned
from relax_tapml.capture.host_tensor import HostTensor, tensor_over
from relax_tapml.errors import StoreError
from relax_tapml.files.mapped import FilePlace, are_bytes_at, array_at, place_of, written_parts
from relax_tapml.system import reserve
from relax_tapml.targets.server.functions import (
    ServerFunction,
    optional_function,
    server_function,
)

_SMALL_BYTES = 1 << 12
_FILE_BYTES = 1 << 20
# Larger tensors cross in parts, so that the file, which stays in memory, is small.
_PART_BYTES = 1 << 25
# The type of a remote device is that of the device there, plus a multiple of this.
_REMOTE = 128
_FIX = "Run again"


class FileExchange:
    """The client's half.

    Parameters
    ----------
    remote
        A ``tvm.rpc.RPCSession`` whose server has called ``register`` with the same folder.
    folder
        A folder both processes can write to.
    """

    def __init__(self, remote: Any, folder: Path) -> None:
        self._take = server_function(remote, ServerFunction.TENSOR_FROM_FILE)
        # A server without it, which has no Python, takes and gives whole tensors.
        self._put = optional_function(remote, ServerFunction.PART_FROM_FILE)
        self._give = server_function(remote, ServerFunction.TENSOR_TO_FILE)
        self._holds = optional_function(remote, ServerFunction.TENSOR_HOLDS_FILE)
        self._map = optional_function(remote, ServerFunction.TENSOR_OF_FILE)
        self._file = _MappedFile(folder)

    def upload(self, array: Array, device: Any) -> Any:
        """Copy a C-contiguous array to a new tensor on ``device``."""
        data = array.reshape(-1).view(np.uint8)
        tensor = None
        for begin, size in self._parts(array.nbytes, device):
            self._file.at_least(size)[:size] = data[begin : begin + size].data
            if tensor is None:
                tensor = self._take(device, array.dtype.name, *array.shape)
            else:
                self._put(tensor, begin, size)
        return tensor

    def maps(self, device: Any) -> bool:
        """Whether ``map`` returns pages of the file on a device, if the server may open it."""
        return self._map is not None and _is_cpu(device)

    def map(self, place: FilePlace, array: Array, device: Any) -> Any:
        """Return a tensor of an array that lies in a file, which a server with Python maps.

        On a CPU its pages are those that this process has; they are copied when a kernel writes to
        them. To another server the array is copied.
        """
        if self._map is None:
            return self.upload(array, device)
        where = str(place.path), place.offset
        tensor = self._map(device, *where, array.dtype.name, *array.shape)
        return self.upload(array, device) if tensor is None else tensor

    def download(self, tensor: Any) -> Array:
        """Copy a tensor to a new array."""
        array = empty_aligned(tuple(tensor.shape), np.dtype(str(tensor.dtype)))
        data = array.reshape(-1).view(np.uint8)
        for begin, part in self._downloaded(tensor, array.nbytes):
            data[begin : begin + part.size] = part
        return array

    def holds(self, tensor: Any, array: Array) -> bool:
        """Whether a tensor has the bytes of a C-contiguous array of its shape and dtype.

        What lies in a file is compared on the server, if that may open it: nothing crosses.
        """
        place = None if self._holds is None else place_of(array)
        if place is not None:
            found = self._holds(tensor, str(place.path), place.offset)
            if found >= 0:
                return bool(found)
        data = array.reshape(-1).view(np.uint8)
        return all(
            np.array_equal(part, data[begin : begin + part.size])
            for begin, part in self._downloaded(tensor, array.nbytes)
        )

    def _downloaded(self, tensor: Any, size_bytes: int) -> Iterator[tuple[int, Array]]:
        """Yield the bytes of a tensor in parts, each with its place; valid until the next one."""
        for begin, size in self._parts(size_bytes, tensor.device):
            content = self._file.at_least(size)
            self._give(tensor, *(() if self._put is None else (begin, size)))
            whole = np.frombuffer(content, np.uint8, size)
            for start in range(0, max(size, 1), _PART_BYTES):
                yield begin + start, whole[start : start + _PART_BYTES]

    def _parts(self, size_bytes: int, device: Any) -> list[tuple[int, int]]:
        return [(0, size_bytes)] if self._put is None else _parts(size_bytes, device)

    def close(self) -> None:
        """Unmap the file. Never raises; may be called twice."""
        self._file.close()

    @staticmethod
    def pays_for(size_bytes: int, dtype: str) -> bool:
        """Whether a tensor is large enough, and stored byte for byte as its array is."""
        kind = tvm_ffi.dtype(dtype)
        return size_bytes >= _SMALL_BYTES and kind.bits % 8 == 0 and kind.lanes == 1


def _parts(size_bytes: int, device: Any) -> list[tuple[int, int]]:
    """Return where the parts of a tensor begin that cross one by one, and their sizes.

    At least one, of no bytes where the tensor has none. Only a CPU's memory is copied in parts.
    """
    step = _PART_BYTES if _is_cpu(device) else max(size_bytes, 1)
    starts = range(0, max(size_bytes, 1), step)
    return [(begin, min(step, size_bytes - begin)) for begin in starts]


def _is_cpu(device: Any) -> bool:
    return bool(device.dlpack_device_type() % _REMOTE == tvm.cpu().dlpack_device_type())


def register(folder: Path) -> None:
    """Register the server's half as global functions."""
    file = _MappedFile(folder)
    # By address, the arrays that tensors of this process have the memory of.
    of_file: WeakValueDictionary[int, Array] = WeakValueDictionary()

    def take(device: Any, dtype: str, *shape: int) -> Any:
        tensor = tvm.runtime.empty(shape, dtype, device)
        begin, size = _parts(size_of(tensor), device)[0]
        put(tensor, begin, size)
        return tensor

    def put(tensor: Any, begin: int, size: int) -> None:
        if size == size_of(tensor):
            _ffi_api.TVMTensorCopyFromBytes(tensor, address(size), size)
        else:
            ctypes.memmove(tensor.data_ptr() + begin, address(size), size)

    def give(tensor: Any, begin: int, size: int) -> None:
        if size == size_of(tensor):
            _ffi_api.TVMTensorCopyToBytes(tensor, address(size), size)
        else:
            ctypes.memmove(address(size), tensor.data_ptr() + begin, size)

    def mapped(device: Any, path: str, offset: int, dtype: str, *shape: int) -> Any:
        kind = dtype_named(dtype)
        size = math.prod(shape) * kind.itemsize
        place = FilePlace(path=Path(path), offset=offset, size_bytes=size)
        try:
            array = array_at(place, kind, shape, fix=_FIX)
        except StoreError:  # The memory of a process may be hidden from others.
            return None
        is_cpu = device.__device_type_name__() == "cpu"
        tensor = tensor_over(array) if is_cpu else None
        if tensor is not None:
            of_file[array.ctypes.data] = array
        return tvm.runtime.tensor(array, device) if tensor is None else tensor

    def holds(tensor: Any, path: str, offset: int) -> int:
        is_cpu = tensor.device.__device_type_name__() == "cpu"
        held = HostTensor.view_of(tensor) if is_cpu else HostTensor.copy_of(tensor)
        place = FilePlace(path=Path(path), offset=offset, size_bytes=held.nbytes)
        array = of_file.get(tensor.data_ptr()) if is_cpu else None
        # What lies there itself is the same where nobody has written to it.
        parts = [slice(0, held.nbytes)]
        if array is not None and place_of(array) == place:
            parts = written_parts(array)
        try:
            return int(
                all(
                    are_bytes_at(
                        replace(place, offset=offset + part.start), held.data[part], fix=_FIX
                    )
                    for part in parts
                )
            )
        except StoreError:
            return -1

    def size_of(tensor: Any) -> int:
        return int(math.prod(tensor.shape) * tensor.dtype.itemsize)

    def address(size: int) -> ctypes.c_void_p:
        data = np.frombuffer(file.at_least(size), np.uint8)
        return data.ctypes.data_as(ctypes.c_void_p)

    tvm.register_global_func(str(ServerFunction.TENSOR_FROM_FILE), take, override=True)
    tvm.register_global_func(str(ServerFunction.PART_FROM_FILE), put, override=True)
    tvm.register_global_func(str(ServerFunction.TENSOR_TO_FILE), give, override=True)
    tvm.register_global_func(str(ServerFunction.TENSOR_HOLDS_FILE), holds, override=True)
    tvm.register_global_func(str(ServerFunction.TENSOR_OF_FILE), mapped, override=True)


class _MappedFile:
    """A file that either process maps, and enlarges when a tensor needs it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "tensor"
        self._content: mmap.mmap | None = None

    def at_least(self, size_bytes: int) -> mmap.mmap:
        """Return the mapped file, with room for so many bytes."""
        if self._content is None or len(self._content) < size_bytes:
            self._path.touch()
            with self._path.open("r+b") as file:
                reserve(file.fileno(), max(size_bytes, _FILE_BYTES))
                self._content = mmap.mmap(file.fileno(), 0)
        return self._content

    def close(self) -> None:
        if self._content is not None:
            self._content.close()
