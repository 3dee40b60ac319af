"""Files mapped into memory: large content is not read, and processes share its pages."""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relax_tapml.arrays import Array, are_same_bytes, empty_aligned
from relax_tapml.errors import MachineError, StoreError
from relax_tapml.files.read import MAX_WEIGHTS_BYTES, open_file

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
SHARED_BYTES = 1 << 24
"""Of the smallest array that ``shared_array`` shares."""

# What Linux tells of the pages of a process, 64 bits each: admin-guide/mm/pagemap.rst.
_PAGES = Path("/proc/self/pagemap")
_IS_PRESENT_OR_SWAPPED, _IS_OF_FILE = np.uint64(3 << 62), np.uint64(1 << 61)
_COMPARED = 1 << 18  # Bytes that are read at once.
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True, kw_only=True)
class FilePlace:
    """Where in a file the bytes of an array lie; ``path`` is absolute."""

    path: Path
    offset: int
    size_bytes: int


class _Mapping:
    """A mapping of a whole file, private unless the file is memory of this process.

    Not ``mmap.mmap``, which keeps a descriptor, of which a process has too few for all weights.
    """

    def __init__(
        self, descriptor: int, size_bytes: int, path: Path, *, is_memory: bool = False
    ) -> None:
        self.path = path.absolute()
        self.is_memory = is_memory
        self._identity = self._identity_of(os.fstat(descriptor))
        # Nearly nothing is ever written to these pages, so no memory need be kept for it.
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        if is_memory:
            flags = mmap.MAP_SHARED
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = _LIBC.mmap(None, size_bytes, access, flags, descriptor, 0)
        if address in (None, _FAILED):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address: int = address
        weakref.finalize(self, _LIBC.munmap, address, size_bytes).atexit = False

    @property
    def is_there(self) -> bool:
        """Whether another process finds the same content at ``path``."""
        try:
            return self._identity_of(self.path.stat()) == self._identity
        except OSError:
            return False

    def _identity_of(self, status: os.stat_result) -> tuple[int, ...]:
        # The content of memory is written after it is mapped.
        time_ns = 0 if self.is_memory else status.st_mtime_ns
        return status.st_dev, status.st_ino, status.st_size, time_ns


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
    return _array_over(mapping, size_bytes)


def shared_array(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return a new array, of any content, that other processes may map, see ``place_of``.

    It is freed as any other. A small one is an ordinary array, and so is one on a system that
    cannot do this.
    """
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes < SHARED_BYTES or not hasattr(os, "memfd_create"):
        return empty_aligned(shape, dtype)
    try:
        descriptor = os.memfd_create("relax_tapml.array")
    except OSError:
        return empty_aligned(shape, dtype)
    try:
        os.ftruncate(descriptor, size_bytes)
        path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        mapping = _Mapping(descriptor, size_bytes, path, is_memory=True)
    except OSError:
        os.close(descriptor)
        return empty_aligned(shape, dtype)
    weakref.finalize(mapping, os.close, descriptor).atexit = False
    return _array_over(mapping, size_bytes).view(dtype).reshape(tuple(shape))


def _array_over(mapping: _Mapping, size_bytes: int) -> Array:
    memory = (ctypes.c_uint8 * size_bytes).from_address(mapping.address)
    memory.owner = mapping  # type: ignore[attr-defined]
    return np.asarray(np.ctypeslib.as_array(memory))


def is_mapped(array: Array) -> bool:
    """Return whether an array is a view of ``map_file``'s."""
    mapping = _mapping(array)
    return mapping is not None and not mapping.is_memory


def drop_pages(array: Array) -> None:
    """Take an array's pages out of the memory of this process; they come back when they are read.

    Only of an array of ``map_file``'s that nobody has written to: what was written would be lost.
    It stays in the system's cache of the file, so reading it again is fast. Nothing happens where
    the system cannot do this, or the array is none of ``map_file``'s.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None or not is_mapped(array) or not array.flags.c_contiguous:
        return
    # Pages that other arrays begin or end in stay.
    begin = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end:
        _LIBC.madvise(begin, end - begin, advice)


def place_of(array: Array) -> FilePlace | None:
    """Return where another process finds the bytes of an array.

    None where the array is no C-contiguous view of ``map_file``'s or ``shared_array``'s, or the
    file is gone or changed.
    """
    mapping = _mapping(array)
    if mapping is None or not array.flags.c_contiguous or array.size == 0:
        return None
    if not mapping.is_there:
        return None
    offset = array.ctypes.data - mapping.address
    return FilePlace(path=mapping.path, offset=offset, size_bytes=array.nbytes)


def array_at(place: FilePlace, dtype: np.dtype[Any], shape: Sequence[int], *, fix: str) -> Array:
    """Map the bytes at a place once more: what is written to them stays in this array.

    Raises
    ------
    StoreError
        The file cannot be opened, as the memory of a process that is hidden from others.
    """
    content = map_file(place.path, fix=fix, max_bytes=MAX_WEIGHTS_BYTES)
    part = content[place.offset : place.offset + place.size_bytes]
    return part.view(dtype).reshape(tuple(shape))


def written_parts(array: Array) -> list[slice]:
    """Return the bytes of an array of ``map_file``'s that this process may have written to.

    Writing to a page of a private mapping makes a copy of it, which Linux tells of each page. All
    bytes, where the system does not. The array is C-contiguous.
    """
    whole = slice(0, array.nbytes)
    if not is_mapped(array) or not array.size:
        return [whole]
    first = array.ctypes.data // mmap.PAGESIZE
    count = -(-(array.ctypes.data + array.nbytes) // mmap.PAGESIZE) - first
    try:
        with _PAGES.open("rb", buffering=0) as file:
            file.seek(8 * first)
            entries = file.read(8 * count)
    except OSError:
        return [whole]
    if len(entries) != 8 * count:
        return [whole]
    pages = np.frombuffer(entries, np.uint64)
    is_there = (pages & _IS_PRESENT_OR_SWAPPED) != 0
    own = np.flatnonzero(is_there & ((pages & _IS_OF_FILE) == 0))
    runs = np.split(own, np.flatnonzero(np.diff(own) > 1) + 1) if own.size else []
    start = first * mmap.PAGESIZE - array.ctypes.data
    bounds = [
        (start + int(run[0]) * mmap.PAGESIZE, start + (int(run[-1]) + 1) * mmap.PAGESIZE)
        for run in runs
    ]
    return [slice(max(0, begin), min(array.nbytes, end)) for begin, end in bounds]


def are_bytes_at(place: FilePlace, data: Array, *, fix: str) -> bool:
    """Return whether a file has these bytes at a place: uint8, one axis.

    They are read part by part, which takes less time than to map what is looked at once.

    Raises
    ------
    StoreError
        As ``array_at``.
    """
    part = np.empty(_COMPARED, np.uint8)
    with open_file(place.path, fix=fix, max_bytes=MAX_WEIGHTS_BYTES) as file:
        file.seek(place.offset)
        for begin in range(0, data.size, _COMPARED):
            expected = data[begin : begin + _COMPARED]
            found = part[: expected.size]
            if file.readinto(found.data) != found.size or not are_same_bytes(found, expected):
                return False
    return True


def _mapping(array: Array) -> _Mapping | None:
    base: object = array
    while base is not None:
        owner = getattr(base, "owner", None)
        if isinstance(owner, _Mapping):
            return owner
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None
