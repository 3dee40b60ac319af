"""``result.json``, written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.read import read_json
from relax_tapml.files.replace import write_file
from relax_tapml.results.json_codec import encode, read_as
from relax_tapml.results.run_result import SCHEMA, RunResult

RESULT_FILE = "result.json"
_FIX = "Run the build again"
# Of a thousand units it has about a megabyte.
_MAX_BYTES = 64 << 20


def write_result(folder: Path, result: RunResult) -> None:
    """Write ``folder/result.json``, replacing an earlier one in one move."""
    text = json.dumps(encode(result), indent=1, allow_nan=False) + "\n"
    write_file(folder / RESULT_FILE, text)


def read_result(folder: Path) -> RunResult:
    """Read ``folder/result.json``.

    Parameters
    ----------
    folder
        The output folder of a build.

    Raises
    ------
    UsageError
        The folder has no ``result.json``.
    StoreError
        The file is not JSON, or not a result of the schema that this version reads, or a field is
        missing or of another type.
    """
    path = folder / RESULT_FILE
    if not path.exists() and not path.is_symlink():
        raise UsageError(
            f"{folder}: expected the output folder of a build, found no {RESULT_FILE}. "
            "Pass the folder given to `python -m relax_tapml.build --out`."
        )
    document = read_json(path, fix=_FIX, max_bytes=_MAX_BYTES)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise StoreError(
            f"{path}: expected a result of schema {SCHEMA}, got {schema!r}. "
            "It was written by another version: run the build again."
        )
    return replace(read_as(document, RunResult, path, fix=_FIX), out=folder)
