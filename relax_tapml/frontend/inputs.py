"""Samples from ``.npz`` and ``.safetensors`` files."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.read import read_bytes
from relax_tapml.frontend._archive import check_sizes
from relax_tapml.frontend._arrays import to_array
from relax_tapml.frontend.model import Sample
from relax_tapml.frontend.signature import Signature
from relax_tapml.tensor_file import MAX_TENSOR_BYTES, parse_tensors

_SUFFIXES = (".npz", ".safetensors")


def load_samples(paths: Iterable[Path], signature: Signature) -> tuple[Sample, ...]:
    """Read one sample from each file, and from each file of a folder, in the order of names.

    Arrays are matched to the entry function's inputs by name, or by position where they are all
    called ``arr_0``, ``arr_1`` and so on, as ``numpy.savez(file, a, b)`` does. Values, dtypes and
    shapes are as in the file; ``check_model`` compares them with the function.

    Raises
    ------
    UsageError
        A path does not exist, is not a sample file, cannot be read, or holds other arrays than the
        function's inputs.
    """
    return tuple(
        Sample(name=file.name, arrays=_in_order(arrays, signature, file))
        for file, arrays in read_arrays(paths)
    )


def read_arrays(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Array]]]:
    """Yield each file of samples with its arrays by name; see ``load_samples``."""
    for path in paths:
        for file in _files(path):
            yield file, _read(file)


def as_samples(items: Iterable[Sample | Sequence[Any]]) -> tuple[Sample, ...]:
    """Return samples; sequences of arrays or tensors are converted to samples."""
    return tuple(
        item
        if isinstance(item, Sample)
        else Sample(name=f"input {index}", arrays=tuple(to_array(value) for value in item))
        for index, item in enumerate(items)
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        if not files:
            raise UsageError(f"inputs {path}: the folder is empty. Put .npz files in it.")
    elif path.is_file():
        files = [path]
    else:
        raise UsageError(f"inputs {path}: no such file or folder.")
    for file in files:
        if file.suffix not in _SUFFIXES or not file.is_file():
            raise UsageError(
                f"inputs {file}: expected one {' or '.join(_SUFFIXES)} file for each sample."
            )
    return files


def _read(file: Path) -> dict[str, Array]:
    try:
        data = read_bytes(file, fix="Write it again", max_bytes=MAX_TENSOR_BYTES)
    except StoreError as error:
        raise UsageError(f"inputs {error}") from error
    try:
        if file.suffix == ".safetensors":
            return parse_tensors(data)
        arrays = _unpacked(data)
    except Exception as error:  # Whatever zlib, zipfile and NumPy raise about it.
        reason = str(error) or type(error).__name__
        raise UsageError(f"inputs {file}: cannot be read: {reason}. Write it again.") from error
    for name, array in arrays.items():
        if array.dtype.kind == "V":
            raise UsageError(
                f"inputs {file}: '{name}' has lost its dtype: .npz cannot hold bfloat16 and float8."
                " Write a .safetensors file instead."
            )
    return arrays


def _unpacked(data: bytes) -> dict[str, Array]:
    """Return the arrays in the bytes of an ``.npz`` file."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ValueError("it is not an .npz archive")
    check_sizes(io.BytesIO(data))
    _check_headers(io.BytesIO(data))
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_headers(file: IO[bytes]) -> None:
    """Refuse arrays whose headers do not match their sizes, before memory is allocated."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as array:
                version = np.lib.format.read_magic(array)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read is None:
                    raise ValueError(f"'{entry.filename}' has format {version}")
                shape, _, dtype = read(array)
                expected = math.prod(shape) * dtype.itemsize
                if not dtype.hasobject and expected != entry.file_size - array.tell():
                    raise ValueError(
                        f"'{entry.filename}' has {entry.file_size} bytes, which is not the size of "
                        f"an array of {dtype} {list(shape)}"
                    )


def _in_order(arrays: dict[str, Array], signature: Signature, file: Path) -> tuple[Array, ...]:
    names = signature.input_names
    if arrays.keys() == set(names):
        return tuple(arrays[name] for name in names)
    positional = [f"arr_{index}" for index in range(len(names))]
    if arrays.keys() == set(positional):
        return tuple(arrays[name] for name in positional)
    raise UsageError(
        f"inputs {file}: expected the arrays {', '.join(names) or 'none'} of '{signature.entry}', "
        f"got {', '.join(sorted(arrays)) or 'none'}. Name them so, or arr_0, arr_1, ... in order."
    )
