"""Copy tensors between two processes of one machine, through a file that both have mapped.

TVM's RPC writes tensors byte by byte, at 30 to 60 MB/s, and takes several messages to create one.
A file is many times faster: for the tensors of a hybrid run, and for parameters when a crashed
device process is replaced. What lies in a file already is mapped from there and copied by nobody.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.runtime import _ffi_api

from relax_tapml.arrays import Array, dtype_named
from relax_tapml.capture.host_tensor import tensor_over
from relax_tapml.files.mapped import FilePlace, map_file
from relax_tapml.files.read import MAX_WEIGHTS_BYTES

_TAKE = "relax_tapml.targets.tensor_from_file"
_GIVE = "relax_tapml.targets.tensor_to_file"
_MAP = "relax_tapml.targets.tensor_of_file"
_SMALL_BYTES = 1 << 12
_FILE_BYTES = 1 << 20
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
        self._take = remote.get_function(_TAKE)
        self._give = remote.get_function(_GIVE)
        self._map = optional_function(remote, _MAP)
        self._file = _MappedFile(folder)

    def upload(self, array: Array, device: Any) -> Any:
        """Copy a C-contiguous array to a new tensor on ``device``."""
        content = self._file.at_least(array.nbytes)
        content[: array.nbytes] = array.reshape(-1).view(np.uint8).data
        return self._take(device, array.dtype.name, *array.shape)

    def map(self, place: FilePlace, array: Array, device: Any) -> Any:
        """Return a tensor of an array that lies in a file, which a server with Python maps.

        On a CPU its pages are those that this process has; they are copied when a kernel writes to
        them. To another server the array is copied.
        """
        if self._map is None:
            return self.upload(array, device)
        where = str(place.path), place.offset
        return self._map(device, *where, array.dtype.name, *array.shape)

    def download(self, tensor: Any) -> Array:
        """Copy a tensor to a new array."""
        shape, dtype = tuple(tensor.shape), np.dtype(str(tensor.dtype))
        content = self._file.at_least(math.prod(shape) * dtype.itemsize)
        self._give(tensor)
        return np.ndarray(shape, dtype, content).copy()

    def close(self) -> None:
        """Unmap the file. Never raises; may be called twice."""
        self._file.close()

    @staticmethod
    def pays_for(size_bytes: int, dtype: str) -> bool:
        """Whether a tensor is large enough, and stored byte for byte as its array is."""
        kind = tvm_ffi.dtype(dtype)
        return size_bytes >= _SMALL_BYTES and kind.bits % 8 == 0 and kind.lanes == 1


def optional_function(remote: Any, name: str) -> Any:
    """Return a function of a server; None where it lacks it, as one without Python does."""
    try:
        return remote.get_function(name)
    except AttributeError:
        return None


def register(folder: Path) -> None:
    """Register the server's half as global functions."""
    file = _MappedFile(folder)

    def take(device: Any, dtype: str, *shape: int) -> Any:
        tensor = tvm.runtime.empty(shape, dtype, device)
        _ffi_api.TVMTensorCopyFromBytes(tensor, *bytes_of(tensor))
        return tensor

    def give(tensor: Any) -> None:
        _ffi_api.TVMTensorCopyToBytes(tensor, *bytes_of(tensor))

    def mapped(device: Any, path: str, offset: int, dtype: str, *shape: int) -> Any:
        kind = dtype_named(dtype)
        size = math.prod(shape) * kind.itemsize
        content = map_file(Path(path), fix=_FIX, max_bytes=MAX_WEIGHTS_BYTES)
        array = content[offset : offset + size].view(kind).reshape(shape)
        is_cpu = device.__device_type_name__() == "cpu"
        tensor = tensor_over(array) if is_cpu else None
        return tvm.runtime.tensor(array, device) if tensor is None else tensor

    def bytes_of(tensor: Any) -> tuple[ctypes.c_void_p, int]:
        size = math.prod(tensor.shape) * tensor.dtype.itemsize
        data = np.frombuffer(file.at_least(size), np.uint8)
        return data.ctypes.data_as(ctypes.c_void_p), size

    tvm.register_global_func(_TAKE, take, override=True)
    tvm.register_global_func(_GIVE, give, override=True)
    tvm.register_global_func(_MAP, mapped, override=True)


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
                # Not truncate: writing to a hole in the file on a full disk would be a SIGBUS.
                os.posix_fallocate(file.fileno(), 0, max(size_bytes, _FILE_BYTES))
                self._content = mmap.mmap(file.fileno(), 0)
        return self._content

    def close(self) -> None:
        if self._content is not None:
            self._content.close()
