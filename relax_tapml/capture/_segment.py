"""One safetensors file of the store, its tensors named by digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from relax_tapml.arrays import Array
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.errors import StoreError
from relax_tapml.files.mapped import map_file
from relax_tapml.files.read import parse_json, typed
from relax_tapml.files.replace import new_file
from relax_tapml.tensor_file import FILE_DTYPES, RawTensor, write_tensors

_FIX = "Restore the file, or delete the store and capture again"
# It is mapped, not read; a single tensor may be larger than a usual segment.
_MAX_BYTES = 1 << 42


def write_segment(path: Path, tensors: Iterable[HostTensor]) -> None:
    """Write a segment atomically."""
    raw = {}
    for tensor in tensors:
        code = FILE_DTYPES.get(tensor.dtype)  # else stored as bytes
        raw[tensor.digest] = RawTensor(
            code=code or "U8",
            shape=tensor.shape if code else (tensor.nbytes,),
            data=tensor.data,
        )
    with new_file(path) as partial:
        write_tensors(partial, raw)


class Segment:
    """A segment mapped into memory.

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
        begin, end = entry.data_offsets
        data = self._data[begin:end]
        data.flags.writeable = False
        return data


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The place of a tensor in the data of a file."""

    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


def _map(path: Path) -> tuple[dict[str, _Entry], Array]:
    content = map_file(path, fix=_FIX, max_bytes=_MAX_BYTES)
    if content.size == 0:
        raise _damaged(path, "the file is empty")
    header_bytes = int.from_bytes(content[:8].tobytes(), "little")
    if content.nbytes < 8 + header_bytes:
        raise _damaged(
            path, f"expected a header of {header_bytes} bytes, got {content.nbytes} bytes in all"
        )
    header = parse_json(content[8 : 8 + header_bytes].tobytes(), path, fix=_FIX)
    if isinstance(header, dict):
        header.pop("__metadata__", None)
    entries = typed(header, dict[str, _Entry], path, fix=_FIX)
    data_bytes = max((entry.data_offsets[1] for entry in entries.values()), default=0)
    data = content[8 + header_bytes :]
    if data.nbytes != data_bytes:
        raise _damaged(path, f"expected {data_bytes} bytes of tensors, got {data.nbytes}")
    return entries, data


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(f"Capture segment {path} is damaged: {what}. {_FIX}.")
