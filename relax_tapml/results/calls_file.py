"""The device calls of a boundary as a file beside it, so that ``explain`` needs no compiler."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relax_tapml.crossings import DeviceCall
from relax_tapml.errors import StoreError
from relax_tapml.files.read import read_json
from relax_tapml.files.replace import write_file
from relax_tapml.results.json_codec import encode, read_as

LAST_GOOD = "last.calls.json"
"""Of the boundary that the bundle has."""

_SCHEMA = 1
_FIX = "Run the build again"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class _Calls:
    schema: int
    calls: tuple[DeviceCall, ...]


def calls_file(boundary: Path) -> Path:
    """Return where the calls of ``boundary.json`` are: ``000.calls.json`` beside ``000.json``."""
    return boundary.with_name(f"{boundary.stem}.calls.json")


def write_calls(path: Path, calls: Sequence[DeviceCall]) -> None:
    """Write device calls in program order, replacing an earlier file in one move."""
    write_file(path, json.dumps(encode(_Calls(schema=_SCHEMA, calls=tuple(calls)))) + "\n")


def read_calls(path: Path) -> tuple[DeviceCall, ...] | None:
    """Return the device calls in a file; None if it is not there.

    Raises
    ------
    StoreError
        It is damaged, or another version wrote it.
    """
    if not path.exists():
        return None
    found = read_as(read_json(path, fix=_FIX, max_bytes=_MAX_BYTES), _Calls, path, fix=_FIX)
    if found.schema != _SCHEMA:
        raise StoreError(f"{path}: expected schema {_SCHEMA}, got {found.schema}. {_FIX}")
    return found.calls
