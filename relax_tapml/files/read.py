"""The one reader of files that may be anything: another kind of file, damaged, or made to harm."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from relax_tapml.errors import StoreError

MAX_JSON_BYTES = 256 * 1024 * 1024


def read_bytes(path: Path, *, fix: str, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path
        A pipe, a device, a folder or a link to nothing is refused without waiting for it.
    fix
        What to do where the file cannot be used, a sentence: ``Carve the suite again``.
    max_bytes
        What is larger is not read.

    Raises
    ------
    StoreError
        It is not there, is no regular file, is too large or cannot be read.
    """
    try:
        # A pipe without a writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{path} is no file. {fix}")
            if status.st_size > max_bytes:
                raise StoreError(
                    f"{path} has {status.st_size} bytes, expected at most {max_bytes}. {fix}"
                )
            return file.read(max_bytes + 1)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. {fix}") from error
    except (ValueError, MemoryError) as error:
        raise StoreError(f"{path} cannot be read: {error or 'out of memory'}. {fix}") from error


def parse_json(data: bytes, path: Path, *, fix: str) -> Any:
    """Return the JSON value in the content of a file.

    Raises
    ------
    StoreError
        It is no JSON, not UTF-8, nested too deeply, or holds a number that is not finite.
    """
    try:
        return json.loads(data.decode(), parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError, MemoryError) as error:
        told = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise StoreError(f"{path} is damaged: {told}. {fix}") from error


def read_json(path: Path, *, fix: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the JSON value of a file; see ``read_bytes`` and ``parse_json``."""
    return parse_json(read_bytes(path, fix=fix, max_bytes=max_bytes), path, fix=fix)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")
