"""The result document, ``result.json``, as people-facing code reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError, UsageError

SCHEMA = 1


def read_result(folder: Path) -> dict[str, Any]:
    """Read ``folder/result.json`` and check that this version understands it.

    Parameters
    ----------
    folder
        The output folder of a build.

    Returns
    -------
    dict
        The document. Numbers may be NaN or infinite.

    Raises
    ------
    UsageError
        The folder has no ``result.json``.
    StoreError
        The file is not JSON, or not a result of a schema this version reads.
    """
    path = folder / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{folder}: expected the output folder of a build, found no result.json. "
            "Pass the folder given to `python -m relax_tapml.build --out`."
        ) from error
    except ValueError as error:
        raise StoreError(
            f"{path}: expected JSON, got a file that does not parse ({error}). Run the build again."
        ) from error
    check_schema(result, where=str(path))
    return result  # type: ignore[no-any-return]


def check_schema(result: object, *, where: str) -> None:
    """Raise ``StoreError`` unless ``result`` is a document of schema 1."""
    found = result.get("schema") if isinstance(result, dict) else None
    if found != SCHEMA:
        raise StoreError(
            f"{where}: expected a result of schema {SCHEMA}, got {found!r}. "
            "It was written by another version: run the build again."
        )
