"""One safetensors file of the store, its tensors named by digest.

Files are written with the safetensors library and read here, because its NumPy reader knows no
float8: the format is an eight-byte length, a JSON header and the data.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.errors import StoreError
from relax_tapml.files.replace import new_file
from relax_tapml.frontend.model import Array

# dtypes with one name in TVM and safetensors; all others are stored as bytes, U8.
_SHARED_DTYPES = frozenset(
    name
    for names in (
        ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        ("float16", "bfloat16", "float32", "float64"),
        ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
    for name in names
)


def write_segment(path: Path, tensors: Iterable[HostTensor]) -> None:
    """Write a file that is whole and on the disk before it has its name."""
    specs = {}
    for tensor in tensors:
        is_shared = tensor.dtype in _SHARED_DTYPES
        specs[tensor.digest] = TensorSpec(
            dtype=tensor.dtype if is_shared else "uint8",
            shape=tensor.shape if is_shared else (tensor.nbytes,),
            data_ptr=tensor.data.ctypes.data,
            data_len=tensor.nbytes,
        )
    with new_file(path) as partial:
        serialize_file(specs, partial)
        partial.chmod(path.parent.stat().st_mode & 0o666)  # The library makes it private.


class Segment:
    """A segment mapped into memory, read-only.

    Raises
    ------
    StoreError
        The file is missing, cut short, or not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header, self._data = _map(path)

    def read(self, digest: str) -> Array:
        """Return the bytes of a tensor, a read-only view of the file.

        Raises
        ------
        StoreError
            The file has no tensor of that name.
        """
        entry = self._header.get(digest)
        if entry is None:
            raise _damaged(self._path, f"expected tensor {digest} in it, found none")
        begin, end = entry["data_offsets"]
        return self._data[begin:end]


def _map(path: Path) -> tuple[dict[str, Any], Array]:
    try:
        with path.open("rb") as file:
            content = np.frombuffer(
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8
            )
    except FileNotFoundError as error:
        raise _damaged(path, "the file is missing") from error
    except ValueError as error:
        raise _damaged(path, "the file is empty") from error
    header_bytes = int.from_bytes(content[:8].tobytes(), "little")
    if content.nbytes < 8 + header_bytes:
        raise _damaged(
            path, f"expected a header of {header_bytes} bytes, got {content.nbytes} bytes in all"
        )
    try:
        header = json.loads(content[8 : 8 + header_bytes].tobytes())
        header.pop("__metadata__", None)
        data_bytes = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise _damaged(path, "its header is not that of a safetensors file") from error
    data = content[8 + header_bytes :]
    if data.nbytes != data_bytes:
        raise _damaged(path, f"expected {data_bytes} bytes of tensors, got {data.nbytes}")
    return header, data


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"Capture segment {path} is damaged: {what}. "
        "Restore the file, or delete the store and capture again."
    )
