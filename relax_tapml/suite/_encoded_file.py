"""Files of tensors that a suite does not hold as they are: most places copied, or few values.

A file is safetensors with ``placesN``, the held places of the Nth axis that has copies; and with
``tensor``, the values at these places, or with ``table`` and ``codes``: which of the values in
the table is at each of them, a byte each or two bytes where the table has more than 256 values (the
low bytes of all, then the high bytes), compressed by zlib.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from relax_tapml import tensor_file
from relax_tapml.arrays import Allocate, Array, dtype_named, empty_aligned
from relax_tapml.compare.tolerances.bound_table import BoundTable, place_dtype
from relax_tapml.suite.copies import Copies
from relax_tapml.suite.manifest import SuiteTensor

_TENSOR, _TABLE, _CODES, _PLACES = "tensor", "table", "codes", "places"
_LEVEL = 1
# As of tensors that are filled.
_MAX_PLACES = 1 << 24


def dump(held: Array | BoundTable, copies: Sequence[Copies]) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    held
        The values at the places that are held, or their table.
    copies
        The axes along which other places are copies.
    """
    arrays = {f"{_PLACES}{number}": item.places for number, item in enumerate(copies)}
    if isinstance(held, BoundTable):
        arrays[_TABLE] = held.values
        planes = held.places.astype(held.places.dtype.newbyteorder("<")).view(np.uint8)
        planes = planes.reshape(-1, held.places.itemsize).T
        arrays[_CODES] = np.frombuffer(zlib.compress(planes.tobytes(), _LEVEL), np.uint8)
    else:
        arrays[_TENSOR] = held.reshape(-1)
    return tensor_file.dump_tensors(arrays)


def check(file: BinaryIO, entry: SuiteTensor) -> None:
    """Raise ``ValueError`` unless the header of an open file is that of such a tensor."""
    actual = tensor_file.file_types(file)
    code = tensor_file.FILE_DTYPES.get(entry.dtype)
    size_bytes = math.prod(entry.shape) * dtype_named(entry.dtype).itemsize
    if code is None or size_bytes > tensor_file.MAX_TENSOR_BYTES:
        raise ValueError(f"a tensor of {entry.dtype} {list(entry.shape)} cannot be held")
    expected = {f"{_PLACES}{n}": ("I64", [item.held]) for n, item in enumerate(entry.copied)}
    count = math.prod(_held_shape(entry))
    if entry.table is None:
        expected[_TENSOR] = (code, [count])
    else:
        expected[_TABLE] = (code, [entry.table])
        # Compressed, of any size.
        expected[_CODES] = ("U8", actual.get(_CODES, ("U8", [0]))[1])
    if actual != expected:
        raise ValueError(f"expected {expected}, got {actual}")


def parse(data: Array, entry: SuiteTensor, *, allocate: Allocate = empty_aligned) -> Array:
    """Return the tensor that a file holds, in an array that ``allocate`` makes if it has copies.

    Raises
    ------
    ValueError
        It does not hold what ``entry`` says.
    """
    arrays = tensor_file.parse_tensors(data)
    shape = _held_shape(entry)
    if entry.table is None:
        array = arrays[_TENSOR].reshape(shape)
    else:
        places = _places(arrays[_CODES], math.prod(shape), entry.table)
        array = BoundTable(values=arrays[_TABLE], places=places).bounds().reshape(shape)
    for number, item in enumerate(entry.copied):
        count = entry.shape[item.axis]
        places = arrays[f"{_PLACES}{number}"]
        array = Copies(axis=item.axis, places=places, count=count).whole(array, allocate=allocate)
    return array


def _places(codes: Array, count: int, values: int) -> Array:
    """Return ``count`` places in a table of so many values."""
    dtype = place_dtype(values)
    size_bytes = count * dtype.itemsize
    try:
        # No more than there should be: a few bytes may claim to be very many.
        stream = zlib.decompressobj()
        planes = stream.decompress(codes.data, size_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"its codes cannot be read: {error}") from error
    if len(planes) != size_bytes or not stream.eof or stream.unused_data:
        raise ValueError(f"its codes are not the {size_bytes} bytes of {count} values")
    found = np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, count).T
    return np.ascontiguousarray(found).view(dtype.newbyteorder("<")).reshape(-1).astype(dtype)


def _held_shape(entry: SuiteTensor) -> tuple[int, ...]:
    """Return the shape of what the file holds; ``ValueError`` if there is no such tensor."""
    shape = list(entry.shape)
    last = -1
    for item in entry.copied:
        if not last < item.axis < len(shape) or not 0 < item.held <= shape[item.axis]:
            raise ValueError(f"{item.held} places of axis {item.axis} cannot be held")
        if shape[item.axis] > _MAX_PLACES:
            raise ValueError(f"an axis of {shape[item.axis]} places is too long for copies")
        last = item.axis
        shape[item.axis] = item.held
    return tuple(shape)
