"""Tensors in a safetensors file, bit for bit: several by name, or one of any dtype.

Of a large tensor the file may hold some rows and their numbers, or some columns: its part at some
places of an axis. The rest is filled when it is read, with the same values in other places.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy

from relax_tapml.arrays import Allocate, Array, dtype_named, empty_aligned, hashed
from relax_tapml.cores import in_threads, slices

FILE_DTYPES = {
    "bool": "BOOL",
    "complex64": "C64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
"""What safetensors calls each dtype of NumPy and ``ml_dtypes`` that it can hold."""

MAX_TENSOR_BYTES = 1 << 34
"""Of one tensor: what is larger is no tensor of a model that runs here."""

_DTYPES = {code: dtype_named(name) for name, code in FILE_DTYPES.items()}
_NAME, _ROWS = "tensor", "rows"
_LENGTH_BYTES = 8
# A header of one tensor has about a hundred.
_MAX_HEADER = 100_000
# As of the safetensors library.
_MAX_FILE_HEADER = 100_000_000
# Of a tensor of which a file holds some: no table of words or tokens has more, but any number is
# written easily, and all of them are filled.
_MAX_ROWS = 1 << 24

# Elements that are filled together, and of one place.
_FILLED, _TOGETHER = 1 << 19, 256

# Of TVM's kernels.
_ALIGNMENT = 64


_Types = dict[str, tuple[str, list[int]]]


@dataclass(frozen=True, kw_only=True)
class RawTensor:
    """A tensor to be written: what safetensors calls its dtype, and its bytes, an uint8 array."""

    code: str
    shape: Sequence[int]
    data: Array


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A tensor in the header of a file; its bytes lie from ``begin`` to ``end`` behind it."""

    code: str
    shape: list[int]
    begin: int
    end: int


def dump_tensors(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a safetensors file that holds ``arrays``.

    Raises
    ------
    ValueError
        An array's dtype has no safetensors name.
    """
    for name, array in arrays.items():
        _check_dtype(name, array)
    # The writer takes the buffer as it lies, so a transposed view must be copied first.
    dense = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    return bytes(safetensors.numpy.save(dense))


def parse_tensors(data: bytes | Array) -> dict[str, Array]:
    """Return the arrays in the content of a safetensors file, by name.

    Parameters
    ----------
    data
        Bytes, or an array of them (uint8), as of ``files.mapped.map_file``. The arrays are views of
        it; only those that lie at no multiple of their elements' size are copied.

    Raises
    ------
    ValueError
        The bytes are not a whole safetensors file, or hold a dtype that NumPy lacks.
    """
    content = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    start = _LENGTH_BYTES + length
    if content.nbytes < _LENGTH_BYTES or start > min(content.nbytes, _MAX_FILE_HEADER):
        raise ValueError(f"not a whole safetensors file: it has {content.nbytes} bytes")
    arrays: dict[str, Array] = {}
    entries = _entries(content[_LENGTH_BYTES:start].tobytes())
    _check_gaps(entries.values(), content.nbytes - start)
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.code)
        if dtype is None:
            raise ValueError(f"'{name}' is {entry.code}, which NumPy cannot hold")
        if math.prod(entry.shape) * dtype.itemsize != entry.end - entry.begin:
            raise ValueError(
                f"not a whole safetensors file: '{name}' has {entry.end - entry.begin} bytes"
            )
        values = content[start + entry.begin : start + entry.end].view(dtype)
        arrays[name] = (values if values.flags.aligned else values.copy()).reshape(entry.shape)
    return arrays


def write_tensors(
    path: Path,
    tensors: Mapping[str, RawTensor],
    *,
    on_bytes: Callable[[memoryview], object] | None = None,
) -> None:
    """Write a safetensors file straight from memory, without a copy of it.

    Tensors begin at multiples of 64 bytes, as TVM wants them, but for those behind one whose size
    is no such multiple; these come last.

    Parameters
    ----------
    path, tensors
        The file, and what goes into it.
    on_bytes
        Called with what is written, part after part, in a thread, while it is written: ``update``
        of a hash.
    """
    order = sorted(tensors, key=lambda name: tensors[name].data.nbytes % _ALIGNMENT != 0)
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.data.nbytes
        header[name] = {
            "dtype": tensor.code,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGNMENT)
    parts = [memoryview(len(text).to_bytes(_LENGTH_BYTES, "little") + text)]
    parts += [tensors[name].data.data for name in order]
    with path.open("wb") as file:
        if on_bytes is None:
            file.writelines(parts)
            return
        with ThreadPoolExecutor(1) as thread:
            seen = [thread.submit(on_bytes, part) for part in parts]
            try:
                file.writelines(parts)
                for one in seen:
                    one.result()
            except BaseException:
                thread.shutdown(cancel_futures=True)
                raise


def raw_tensors(arrays: Mapping[str, Array]) -> dict[str, RawTensor]:
    """Return arrays as ``write_tensors`` takes them: views, where they are contiguous.

    Raises
    ------
    ValueError
        An array's dtype has no safetensors name.
    """
    found = {}
    for name, array in arrays.items():
        _check_dtype(name, array)
        dense = np.require(array, array.dtype.newbyteorder("<"), "C")
        data = dense.reshape(-1).view(np.uint8)
        found[name] = RawTensor(code=FILE_DTYPES[array.dtype.name], shape=array.shape, data=data)
    return found


def dump_tensor(array: Array) -> bytes:
    """Return the bytes of a file that holds one array, of any strides and any dtype.

    A dtype that safetensors lacks is kept as bytes.
    """
    dense = np.require(array, requirements="C")
    if dense.dtype.name not in FILE_DTYPES:
        dense = np.frombuffer(dense.tobytes(), np.uint8)
    return dump_tensors({_NAME: dense})


def sha256_of_tensor(array: Array) -> str:
    """Return the SHA-256 of what ``dump_tensor`` returns, without a copy of the array."""
    dense = np.require(array, requirements="C")
    if dense.dtype.name not in FILE_DTYPES or dense.dtype.byteorder == ">":
        return hashlib.sha256(dump_tensor(dense)).hexdigest()
    entry = {
        "dtype": FILE_DTYPES[dense.dtype.name],
        "shape": list(dense.shape),
        "data_offsets": [0, dense.nbytes],
    }
    text = json.dumps({_NAME: entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    content = hashlib.sha256(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    content.update(dense.reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def can_hold_part(array: Array) -> bool:
    """Return whether ``dump_part`` takes an array."""
    return array.ndim > 0 and array.dtype.name in FILE_DTYPES


def dump_part(array: Array, places: Array, axis: int = 0) -> bytes:
    """Return the bytes of a file that holds a part of ``array``.

    Parameters
    ----------
    array
        Of at least one axis, and of a dtype that safetensors has a name for.
    places
        Along the axis, ascending: int64, at least one.
    axis
        Of the array.
    """
    return dump_tensors({_NAME: array.take(places, axis), _ROWS: places})


def filled(
    values: Array, places: Array, count: int, axis: int = 0, *, allocate: Allocate = empty_aligned
) -> Array:
    """Return ``count`` places along an axis, of which ``places`` are ``values``.

    Each other place holds one of ``values``, which a hash of the place chooses, rotated by as many
    elements as that says. So it looks like them and differs from each, and what reads a wrong place
    reads something else. It is the same tensor on every machine.
    """
    held = values.shape[axis]
    rest = np.moveaxis(values, axis, 0).reshape(held, -1)
    size = rest.shape[1]
    shape = (*values.shape[:axis], count, *values.shape[axis + 1 :])
    array = allocate(shape, values.dtype)
    if size:
        hashes = hashed(np.arange(count, dtype=np.uint64))
        chosen = (hashes % np.uint64(held)).astype(np.int64)
        turned = (hashes >> np.uint64(32)) % np.uint64(max(size - 1, 1)) + np.uint64(size > 1)
        turned = turned.astype(np.int64)
        bits = f"u{values.itemsize}"
        parts = array.view(bits).reshape(
            math.prod(shape[:axis]), count, math.prod(shape[axis + 1 :])
        )
        _fill(parts, np.ascontiguousarray(rest).view(bits), chosen, turned)
    array[(slice(None),) * axis + (places,)] = values
    return array


def _fill(parts: Array, rest: Array, chosen: Array, turned: Array) -> None:
    """Fill each place of the middle axis with a row of ``rest``, rotated.

    Parameters
    ----------
    parts
        Before the axis, the axis, and behind it: ``[before, count, after]``.
    rest
        Contiguous, ``[held, before * after]``.
    chosen, turned
        For each place the row, and by how many elements it is rotated: int64.
    """
    before, count, after = parts.shape
    size = rest.shape[1]
    # Some elements of some places at once: they lie one after the other in a row of ``rest``.
    step = min(before, max(1, _TOGETHER // after))
    many = max(1, _FILLED // (step * after))
    ring = np.concatenate([rest, rest[:, : step * after]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(ring, step * after, axis=1)

    def fill(block: tuple[slice, slice]) -> None:
        some, places = block
        extent = some.stop - some.start
        at = (turned[places] + some.start * after) % size
        found = windows[chosen[places], at, : extent * after]
        parts[block] = found.reshape(-1, extent, after).swapaxes(0, 1)

    in_threads(fill, product(slices(before, step), slices(count, many)))


def parse_tensor(
    data: bytes | Array,
    dtype: str,
    shape: Sequence[int],
    *,
    rows: int | None = None,
    axis: int = 0,
    allocate: Allocate = empty_aligned,
) -> Array:
    """Return the array of ``dtype`` and ``shape`` that a file of ``dump_tensor`` holds.

    Parameters
    ----------
    data
        The file; see ``parse_tensors``.
    dtype, shape
        Of the array.
    rows, axis
        How many places of which axis the file holds, if it is one of ``dump_part``.
    allocate
        Makes the array that is filled then.

    Raises
    ------
    ValueError
        The bytes are not such a file, or it holds another dtype or shape.
    """
    held = parse_tensors(data)
    actual = {name: (FILE_DTYPES[a.dtype.name], list(a.shape)) for name, a in held.items()}
    _check_types(actual, dtype, shape, rows, axis)
    values = held[_NAME].reshape(-1).view(dtype_named(dtype))
    if rows is None:
        return values.reshape(shape)
    places, count = held[_ROWS], shape[axis]
    if places[0] < 0 or places[-1] >= count or bool((np.diff(places) <= 0).any()):
        raise ValueError(f"its places are not {rows} ascending numbers below {count}")
    held_places = values.reshape(_held_shape(shape, rows, axis))
    return filled(held_places, places, count, axis, allocate=allocate)


def check_header(
    file: BinaryIO,
    dtype: str,
    shape: Sequence[int],
    *,
    rows: int | None = None,
    axis: int = 0,
) -> None:
    """Check that an open file is one of ``dump_tensor``, without reading the tensor itself.

    Parameters are those of ``parse_tensor``.

    Raises
    ------
    ValueError
        Its header is too long, is no header, or states another dtype, shape or size than expected.
    """
    size = os.fstat(file.fileno()).st_size
    start, entries = _read_header(file, size)
    _check_types({n: (e.code, e.shape) for n, e in entries.items()}, dtype, shape, rows, axis)
    held = shape if rows is None else _held_shape(shape, rows, axis)
    total = math.prod(held) * dtype_named(dtype).itemsize + _LENGTH_BYTES * (rows or 0)
    if start + total != size:
        raise ValueError(
            f"expected {total} bytes of {dtype} {list(held)}, got {size - start} bytes"
        )
    _check_gaps(entries.values(), total)


def file_types(file: BinaryIO) -> dict[str, tuple[str, list[int]]]:
    """Return what safetensors calls the dtype of each tensor of an open file, and its shape.

    Raises
    ------
    ValueError
        Its header is too long, is no header, or states other sizes than the file has.
    """
    size = os.fstat(file.fileno()).st_size
    start, entries = _read_header(file, size)
    _check_gaps(entries.values(), size - start)
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.code)
        if dtype is None or math.prod(entry.shape) * dtype.itemsize != entry.end - entry.begin:
            raise ValueError(f"'{name}' is no whole tensor of {entry.code} {entry.shape}")
    return {name: (entry.code, entry.shape) for name, entry in entries.items()}


def _read_header(file: BinaryIO, size: int) -> tuple[int, dict[str, _Entry]]:
    """Return where the tensors of a file of ``size`` bytes begin, and what its header lists."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if length > _MAX_HEADER or start > size:
        raise ValueError(
            f"its header claims {length} bytes, expected at most {min(_MAX_HEADER, size)}"
        )
    return start, _entries(file.read(length))


def _check_dtype(name: str, array: Array) -> None:
    if array.dtype not in _DTYPES.values():
        raise ValueError(f"'{name}' is {array.dtype}, which safetensors cannot hold")


def _entries(text: bytes) -> dict[str, _Entry]:
    """Return what a header lists. Raises ``ValueError`` if it is none."""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = {}
        for name, item in header.items():
            code, shape, (begin, end) = item["dtype"], item["shape"], item["data_offsets"]
            if not isinstance(code, str) or not all(map(_is_size, (*shape, begin, end))):
                raise ValueError(f"{name!r} is no entry of a tensor")
            found[name] = _Entry(code=code, shape=list(shape), begin=begin, end=end)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _check_gaps(entries: Iterable[_Entry], total: int) -> None:
    """Raise ``ValueError`` unless tensors lie one after the other and take all bytes."""
    ends = sorted((entry.begin, entry.end) for entry in entries)
    if [end for _, end in ends[:-1]] != [begin for begin, _ in ends[1:]] or (
        (ends[0][0], ends[-1][1]) if ends else (0, 0)
    ) != (0, total):
        raise ValueError(f"its tensors lie at {ends[:5]}, expected {total} bytes without gaps")


def _held_shape(shape: Sequence[int], rows: int, axis: int) -> tuple[int, ...]:
    return (*shape[:axis], rows, *shape[axis + 1 :])


def _check_types(
    actual: _Types, dtype: str, shape: Sequence[int], rows: int | None, axis: int
) -> None:
    """Raise ``ValueError`` unless a file has dtype and shape by name as it should."""
    size_bytes = math.prod(shape) * dtype_named(dtype).itemsize
    if min(shape, default=0) < 0 or size_bytes > MAX_TENSOR_BYTES:
        raise ValueError(f"a tensor of {dtype} {list(shape)} cannot be held")
    as_bytes: _Types = {_NAME: ("U8", [size_bytes])}
    code = FILE_DTYPES.get(dtype)
    if rows is None:
        expected = as_bytes if code is None else {_NAME: (code, list(shape))}
    elif code is not None and axis < len(shape) and 0 < rows <= shape[axis] <= _MAX_ROWS:
        expected = {_NAME: (code, list(_held_shape(shape, rows, axis))), _ROWS: ("I64", [rows])}
    else:
        raise ValueError(f"{rows} places of axis {axis} of {dtype} {list(shape)} cannot be held")
    if rows is None:
        # Tensors of other shapes share the file, and older files hold bytes of some dtypes that
        # safetensors has a name for.
        is_same = any(_sizes(actual) == _sizes(types) for types in (expected, as_bytes))
    else:
        is_same = actual == expected
    if not is_same:
        raise ValueError(f"expected {expected}, got {actual}")


def _sizes(types: _Types) -> dict[str, tuple[str, int]]:
    return {name: (code, math.prod(shape)) for name, (code, shape) in types.items()}
