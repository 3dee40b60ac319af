"""The only reader of files from outside, which may be of a wrong kind, damaged or malicious."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

import msgspec

from relax_tapml.errors import MachineError, StoreError, TapmlError

MAX_JSON_BYTES = 256 * 1024 * 1024
MAX_WEIGHTS_BYTES = 1 << 37
"""Of the file of all weights of a model."""
_MAX_DEPTH = 100
# Errors of the machine, not of the file.
_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
_INTEGERS = range(-(2**63), 2**64)

Kind = TypeVar("Kind")


def open_file(path: Path, *, fix: str, max_bytes: int) -> BufferedReader:
    """Open a regular file to read it.

    Parameters
    ----------
    path
        A pipe, a device, a folder or a link to nothing is refused without waiting for it.
    fix
        What to do where the file cannot be used, a sentence: ``Carve the suite again``.
    max_bytes
        A larger file is refused.

    Raises
    ------
    StoreError
        It is missing, no regular file, too large or cannot be read.
    MachineError
        This process has too many open files or too little memory, or the disk fails.
    """
    try:
        # A pipe without a writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error, fix) from error
    except ValueError as error:  # No file has such a name.
        raise StoreError(f"{path!r} cannot be read: {error}. {fix}") from error
    status = os.fstat(descriptor)
    fault = ""
    if not stat.S_ISREG(status.st_mode):
        fault = "is no file"
    elif status.st_size > max_bytes:
        fault = f"has {status.st_size} bytes, expected at most {max_bytes}"
    if fault:
        os.close(descriptor)
        raise StoreError(f"{path} {fault}. {fix}")
    return open(descriptor, "rb")  # noqa: PTH123 - of a descriptor; the caller closes it


def read_bytes(path: Path, *, fix: str, max_bytes: int) -> bytes:
    """Return the content of a regular file; see ``open_file``."""
    with open_file(path, fix=fix, max_bytes=max_bytes) as file:
        try:
            return file.read()
        except OSError as error:
            raise _unreadable(path, error, fix) from error
        except MemoryError as error:
            raise MachineError(
                f"{path} cannot be read: out of memory. Free memory and try again"
            ) from error


def sha256_of(path: Path, *, fix: str, max_bytes: int) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal; see ``open_file``."""
    with open_file(path, fix=fix, max_bytes=max_bytes) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error, fix) from error


def listed_file(folder: Path, name: str, *, by: Path, fix: str) -> Path:
    """Return the path of a regular file that a manifest names in a folder.

    Parameters
    ----------
    folder
        Where it must be, with all links followed.
    name
        Relative, with ``/``.
    by, fix
        The manifest, and what to do where the file cannot be used.

    Raises
    ------
    StoreError
        It is not in the folder, not there, or no regular file.
    """
    parts = PurePosixPath(name)
    is_inside = not parts.is_absolute() and ".." not in parts.parts and "\\" not in name
    path = folder / name
    try:
        # A link may lead out of the folder, and opening a pipe would block.
        if not is_inside or not path.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{by} names {name!r}, which is outside {folder}. {fix}")
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            f"{folder}/{name} is listed in {by.name} but cannot be read: {reason}. {fix}"
        ) from error
    if not stat.S_ISREG(mode):
        raise StoreError(f"{path} is listed in {by.name} but is no file. {fix}")
    return path


def parse_json(data: bytes, path: Path, *, fix: str) -> Any:
    """Return the JSON value in the content of a file.

    Raises
    ------
    StoreError
        It is no JSON, not UTF-8 or text that UTF-8 cannot hold, nested too deeply, or holds a
        number that is not finite or an integer of more than 64 bits.
    """
    try:
        value = json.loads(
            data.decode(), parse_constant=_refused, parse_float=_finite, parse_int=_integer
        )
        _check_depth(value)
        if b"\\u" in data:
            # Half of a surrogate pair can be written as an escape, but never be encoded or printed.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError, MemoryError) as error:
        fault = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise StoreError(f"{path} is damaged: {fault or 'out of memory'}. {fix}") from error
    return value


def read_json(path: Path, *, fix: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the JSON value of a file; see ``read_bytes`` and ``parse_json``."""
    return parse_json(read_bytes(path, fix=fix, max_bytes=max_bytes), path, fix=fix)


def typed(value: Any, kind: type[Kind], path: Path | str, *, fix: str) -> Kind:
    """Return a JSON value as a dataclass or another type.

    Every field without a default must be there and of its type: nothing is converted but lists to
    tuples, and integers to floats. Fields that the type lacks are dropped.

    Parameters
    ----------
    value
        Of ``parse_json``.
    kind
        A dataclass, a ``TypedDict``, ``dict[str, int]`` and so on. A ``ValueError`` or
        ``TypeError`` of a dataclass's ``__post_init__`` counts as a fault of the value.
    path, fix
        For messages.

    Raises
    ------
    StoreError
        It is not of that type; the message names the place in the value.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path} is damaged: {error}. {fix}") from error


def _unreadable(path: Path, error: OSError, fix: str) -> TapmlError:
    if error.errno in _OF_THE_MACHINE:
        return MachineError(f"{path} cannot be read: {error.strerror}. The file may be sound")
    return StoreError(f"{path} cannot be read: {error.strerror}. {fix}")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    raise RecursionError


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def _integer(text: str) -> int:
    value = int(text)
    return value if value in _INTEGERS else _refused(f"an integer of {len(text)} digits")


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number that JSON can hold here")
