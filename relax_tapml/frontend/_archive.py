"""Checks of zip archives before anything in them is unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO

_RATIO = 100
# A small file of zeros, such as a mask, is compressed by a factor of a thousand.
_ALWAYS_BYTES = 256 * 1024 * 1024


def check_sizes(file: Path | IO[bytes]) -> None:
    """Refuse an archive that unpacks to far more than its size, or has two entries of one name.

    Raises
    ------
    ValueError
        It is such an archive.
    OSError, zipfile.BadZipFile
        It cannot be read.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    size = file.stat().st_size if isinstance(file, Path) else file.seek(0, io.SEEK_END)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_ALWAYS_BYTES, _RATIO * size):
        raise ValueError(f"it has {size} bytes and unpacks to {unpacked}")
    # Some readers ignore the case of letters, and would read the other of the two entries.
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise ValueError("two of its entries have the same name")
