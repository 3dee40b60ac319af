"""Files mapped into memory: large content is not read, and processes share its pages."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.files.read import open_file

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True, kw_only=True)
class FilePlace:
    """Where in a file the bytes of an array lie; ``path`` is absolute."""

    path: Path
    offset: int
    size_bytes: int


class _Mapping:
    """A private mapping of a whole file.

    Not ``mmap.mmap``, which keeps a descriptor, of which a process has too few for all weights.
    """

    def __init__(self, descriptor: int, size_bytes: int, path: Path) -> None:
        self.path = path.absolute()
        self.identity = _identity(os.fstat(descriptor))
        # Nearly nothing is ever written to these pages, so no memory need be kept for it.
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = _LIBC.mmap(None, size_bytes, access, flags, descriptor, 0)
        if address in (None, _FAILED):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address: int = address
        weakref.finalize(self, _LIBC.munmap, address, size_bytes).atexit = False


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
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes == 0:
            return np.zeros(0, np.uint8)
        try:
            mapping = _Mapping(file.fileno(), size_bytes, path)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MachineError(f"{path} cannot be mapped: out of memory") from error
            raise StoreError(f"{path} cannot be read: {error.strerror}. {fix}") from error
    memory = (ctypes.c_uint8 * size_bytes).from_address(mapping.address)
    memory.owner = mapping  # type: ignore[attr-defined]
    return np.asarray(np.ctypeslib.as_array(memory))


def is_mapped(array: Array) -> bool:
    """Return whether an array is a view of ``map_file``'s."""
    return _mapping(array) is not None


def place_of(array: Array) -> FilePlace | None:
    """Return where another process finds the bytes of an array.

    None where the array is no C-contiguous view of ``map_file``'s, or the file is gone or changed.
    """
    mapping = _mapping(array)
    if mapping is None or not array.flags.c_contiguous or array.size == 0:
        return None
    try:
        is_there = _identity(mapping.path.stat()) == mapping.identity
    except OSError:
        is_there = False
    if not is_there:
        return None
    offset = array.ctypes.data - mapping.address
    return FilePlace(path=mapping.path, offset=offset, size_bytes=array.nbytes)


def _mapping(array: Array) -> _Mapping | None:
    base: object = array
    while base is not None:
        owner = getattr(base, "owner", None)
        if isinstance(owner, _Mapping):
            return owner
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
