"""The result document, ``result.json``, as people-facing code reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.read import read_json, typed
from relax_tapml.results.documents import Result

SCHEMA = 1
_FIX = "Run the build again"
# Of a thousand units it has about a megabyte.
_MAX_BYTES = 64 << 20


def read_result(folder: Path) -> dict[str, Any]:
    """Read ``folder/result.json`` and check that this version understands it.

    Parameters
    ----------
    folder
        The output folder of a build.

    Returns
    -------
    dict
        The document, with all fields of ``relax_tapml.results.documents.Result``, and others.

    Raises
    ------
    UsageError
        The folder has no ``result.json``.
    StoreError
        The file is not JSON, or not a result of a schema this version reads, or holds values of
        other types.
    """
    path = folder / "result.json"
    if not path.exists() and not path.is_symlink():
        raise UsageError(
            f"{folder}: expected the output folder of a build, found no result.json. "
            "Pass the folder given to `python -m relax_tapml.build --out`."
        )
    result = read_json(path, fix=_FIX, max_bytes=_MAX_BYTES)
    check_schema(result, where=str(path))
    typed(result, Result, path, fix=_FIX)
    return result  # type: ignore[no-any-return]


def check_schema(result: object, *, where: str) -> None:
    """Raise ``StoreError`` unless ``result`` is a document of schema 1."""
    found = result.get("schema") if isinstance(result, dict) else None
    if found != SCHEMA or isinstance(found, bool):
        raise StoreError(
            f"{where}: expected a result of schema {SCHEMA}, got {found!r}. "
            "It was written by another version: run the build again."
        )
