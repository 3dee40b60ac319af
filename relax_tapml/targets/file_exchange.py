"""Large tensors between two processes of one machine, through a file.

TVM's RPC writes tensors byte by byte, at 30 to 60 MB/s. A file is many times quicker, which
matters for parameters whenever a crashed device process is replaced.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.runtime import _ffi_api

from relax_tapml.frontend.model import Array

_FILL = "relax_tapml.targets.fill_from_file"
_DUMP = "relax_tapml.targets.dump_to_file"
_SMALL_BYTES = 1 << 16


class FileExchange:
    """The client's half.

    Parameters
    ----------
    remote
        A ``tvm.rpc.RPCSession`` whose server has called ``register``.
    folder
        A folder both processes can write to.
    """

    def __init__(self, remote: Any, folder: Path) -> None:
        self._fill = remote.get_function(_FILL)
        self._dump = remote.get_function(_DUMP)
        self._path = folder / "tensor"

    def upload(self, array: Array, device: Any) -> Any:
        """Copy a C-contiguous array to a new tensor on ``device``."""
        tensor = tvm.runtime.empty(array.shape, array.dtype, device)
        array.tofile(self._path)
        self._fill(tensor, str(self._path))
        self._path.unlink()
        return tensor

    def download(self, tensor: Any) -> Array:
        """Copy a tensor to a new array."""
        self._dump(tensor, str(self._path))
        array = np.fromfile(self._path, np.dtype(str(tensor.dtype))).reshape(tuple(tensor.shape))
        self._path.unlink()
        return array

    @staticmethod
    def pays_for(size_bytes: int, dtype: str) -> bool:
        """Say whether a tensor is large enough, and stored byte for byte as its array is."""
        kind = tvm_ffi.dtype(dtype)
        return size_bytes >= _SMALL_BYTES and kind.bits % 8 == 0 and kind.lanes == 1


def register() -> None:
    """Register the server's half as global functions."""
    tvm.register_global_func(_FILL, _fill_from_file, override=True)
    tvm.register_global_func(_DUMP, _dump_to_file, override=True)


def _fill_from_file(tensor: Any, path: str) -> None:
    data = np.fromfile(path, np.uint8)
    _ffi_api.TVMTensorCopyFromBytes(tensor, data.ctypes.data_as(ctypes.c_void_p), data.nbytes)


def _dump_to_file(tensor: Any, path: str) -> None:
    data = np.empty(int(np.prod(tensor.shape)) * np.dtype(str(tensor.dtype)).itemsize, np.uint8)
    _ffi_api.TVMTensorCopyToBytes(tensor, data.ctypes.data_as(ctypes.c_void_p), data.nbytes)
    data.tofile(path)
