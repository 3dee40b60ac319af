"""Files mapped into memory: large content is not read, and processes share its pages."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.files.read import open_file

# Nearly nothing is ever written to these pages, so no memory need be kept for it.
_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)


@dataclass(frozen=True, kw_only=True)
class FilePlace:
    """Where in a file the bytes of an array lie; ``path`` is absolute."""

    path: Path
    offset: int
    size_bytes: int


class _MappedFile(mmap.mmap):
    """A private mapping of a whole file that knows which file it is."""

    path: Path
    identity: tuple[int, int]


def map_file(path: Path, *, fix: str, max_bytes: int) -> Array:
    """Return the content of a regular file, without reading it; see ``files.read.open_file``.

    Returns
    -------
    Array
        uint8, one axis. The mapping is private: what is written to it stays in this process. The
        file must not be changed in place while it lasts. What replaces the file by another does
        not matter.
    """
    with open_file(path, fix=fix, max_bytes=max_bytes) as file:
        status = os.fstat(file.fileno())
        if status.st_size == 0:
            return np.zeros(0, np.uint8)
        try:
            mapped = _MappedFile(
                file.fileno(), 0, flags=_FLAGS, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        except MemoryError as error:
            raise MachineError(f"{path} cannot be mapped: out of memory") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}. {fix}") from error
    mapped.path = path.absolute()
    mapped.identity = status.st_dev, status.st_ino
    return np.frombuffer(mapped, np.uint8)


def is_mapped(array: Array) -> bool:
    """Return whether an array is a view of ``map_file``'s."""
    return _mapping(array) is not None


def place_of(array: Array) -> FilePlace | None:
    """Return where another process finds the bytes of an array.

    None where the array is no C-contiguous view of ``map_file``'s, or the file is gone.
    """
    mapping = _mapping(array)
    if mapping is None or not array.flags.c_contiguous or array.size == 0:
        return None
    try:
        status = mapping.path.stat()
    except OSError:
        return None
    if (status.st_dev, status.st_ino) != mapping.identity:
        return None
    start = np.frombuffer(mapping, np.uint8).ctypes.data
    return FilePlace(path=mapping.path, offset=array.ctypes.data - start, size_bytes=array.nbytes)


def _mapping(array: Array) -> _MappedFile | None:
    base: object = array
    while base is not None:
        if isinstance(base, _MappedFile):
            return base
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None
